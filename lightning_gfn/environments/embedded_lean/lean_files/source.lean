/- A file of one theorem, taken apart: what stands before it, its statement and its proof. -/
open Lean Elab

namespace Repl

/-- The texts of name, statement and tactics of a theorem or example. -/
def theoremParts (fileMap : FileMap) (cmd : Syntax) : Except Failure (List (String × String)) := do
  let fail {α : Type} (text : String) : Except Failure α := throw { kind := "statement", text }
  let src := fileMap.source
  let some decl := cmd.find? fun s => s.isOfKind ``Parser.Command.theorem || s.isOfKind ``Parser.Command.example
    | fail "the last command is neither a theorem nor an example"
  let some val := decl.find? (·.isOfKind ``Parser.Command.declValSimple) | fail "expected a proof after ':='"
  let head := if decl.isOfKind ``Parser.Command.example then decl[0] else decl[1]
  let name := if decl.isOfKind ``Parser.Command.example then "example" else toString decl[1][0].getId
  let some a := head.getTailPos? | fail "no statement"
  let some b := val.getPos? | fail "no proof"
  let text (s : Syntax) : Except Failure (String × Nat) := do
    let some i := s.getPos? | fail "no proof"
    let some j := s.getTailPos? | fail "no proof"
    return ((Substring.Raw.mk src i j).toString, (fileMap.toPosition i).column)
  if val.getArgs.size > 2 && (val[2].getPos?.isSome || val[3].getPos?.isSome) then
    fail "a proof with 'where' or 'termination_by' cannot be checked"
  let proof ← if val[1].isOfKind ``Parser.Term.byTactic then do
      let (t, column) ← text val[1][1]
      pure ("".pushn ' ' column ++ t)
    else do
      let (t, column) ← text val[1]
      pure ("exact (\n" ++ "".pushn ' ' column ++ t ++ "\n)")
  return [("name", name), ("statement", (Substring.Raw.mk src a b).toString), ("tactics", proof)]

/-- Elaborate all that stands before the last theorem, and take that apart. -/
partial def splitSource (base : Base) (src : String) (heartbeats : Nat) :
    IO (Except Failure (List (String × String))) := do
  let ictx := Parser.mkInputContext src "<input>"
  let context (st : Command.State) : Parser.ParserModuleContext :=
    let scope := st.scopes.head!
    { env := st.env, options := scope.opts, currNamespace := scope.currNamespace, openDecls := scope.openDecls }
  let rec onlyEnds (st : Command.State) (ps : Parser.ModuleParserState) : Bool :=
    let (cmd, ps, log) := Parser.parseCommand ictx (context st) ps {}
    !log.hasErrors && (Parser.isTerminalCommand cmd || (cmd.isOfKind ``Parser.Command.end && onlyEnds st ps))
  let rec go (ps : Parser.ModuleParserState) (st : Command.State) := do
    let (cmd, ps', log) := Parser.parseCommand ictx (context st) ps {}
    if log.hasErrors then return .error { kind := "statement", text := ← errorsOf log }
    if Parser.isTerminalCommand cmd then return .error { kind := "statement", text := "no theorem in the file" }
    if onlyEnds st ps' then
      let before := (Substring.Raw.mk src 0 (cmd.getPos?.getD 0)).toString
      return (theoremParts ictx.fileMap cmd).map (("context", before) :: ·)
    if let some text := refusedCommand barredCommands st.env cmd then
      return .error { kind := "forbidden", text := s!"before the theorem: {text}" }
    let ctx : Command.Context := {
      cmdPos := ps.pos, fileName := ictx.fileName, fileMap := ictx.fileMap, snap? := none, cancelTk? := none }
    match ← ((Command.elabCommandTopLevel cmd).run ctx |>.run st).toIO' with
    | .error e => return .error { kind := "statement", text := ← e.toMessageData.toString }
    | .ok (_, st) => go ps' st
  go {} { base.st with scopes := base.st.scopes.map fun s => { s with opts := limit s.opts heartbeats } }

end Repl
