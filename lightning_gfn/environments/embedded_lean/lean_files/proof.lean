/- Proofs in progress: the statement, one tactic, and the check of a finished proof. -/
open Lean Meta Elab

namespace Repl

/-- What went wrong; `kind` is one of LeanError's. -/
structure Failure where
  kind : String
  text : String

/-- The top level after imports and context, and the constants of both as the kernel alone has accepted them. -/
structure Base where
  st : Command.State
  kernel : Environment

/-- A proof in progress. States are immutable: a tactic yields a new one, so search can branch. -/
structure Proof where
  coreCtx : Core.Context
  core : Core.State
  metaSt : Meta.State
  termCtx : Term.Context
  termSt : Term.State
  goals : List MVarId
  root : MVarId
  /-- The statement, closed over its hypotheses when it was made: what the proof must prove in the end. -/
  type : Expr
  levels : List Name
  hyps : Array Expr
  kernel : Environment

def units (heartbeats : Nat) : Nat := heartbeats * 1000

def limit (opts : Options) (heartbeats : Nat) : Options :=
  (opts.set `maxHeartbeats heartbeats).set `Elab.async false

def isTimeout (text : String) : Bool :=
  (text.splitOn "(deterministic) timeout at").length > 1

def failure (kind text : String) : Failure :=
  { kind := if isTimeout text then "timeout" else kind, text }

def errorsOf (log : MessageLog) : IO String := do
  let es ← (log.toArray.filter (·.severity matches .error)).mapM (·.data.toString)
  return "\n".intercalate es.toList

/-! ## What no proof may contain: code that Lean would run while it elaborates, and other meanings of words -/

def barred : List String :=
  ["sorry", "admit", "native_decide", "set_option", "open", "unsafe", "run_tac", "run_elab", "run_meta", "by_elab",
   "include_str", "@[", "sleep", "dbg_trace"]

/-- Lean evaluates settings of tactics as code, so only literals are let through. -/
def literalKinds : List Name :=
  [`null, `num, `str, `ident, ``Parser.Tactic.optConfig, ``Parser.Tactic.configItem, ``Parser.Tactic.posConfigItem,
   ``Parser.Tactic.negConfigItem, ``Parser.Tactic.valConfigItem, ``Parser.Tactic.config, ``Parser.Term.structInst,
   ``Parser.Term.structInstFields, ``Parser.Term.structInstField, ``Parser.Term.structInstFieldDef,
   ``Parser.Term.structInstLVal, ``Parser.Term.optEllipsis, ``Parser.Term.dotIdent, ``Parser.Term.paren,
   `«term[_]», `hygieneInfo, ``Parser.Term.hygienicLParen]

partial def isLiteral : Syntax → Bool
  | .node _ ``Parser.Term.app args =>
    (args[0]?.map (·.isOfKind ``Parser.Term.dotIdent)).getD false && args.all isLiteral
  | .node _ k args => literalKinds.contains k && args.all isLiteral
  | .ident _ _ n _ => n != `native
  | _ => true

partial def refused (barred : List String) : Syntax → Option String
  | .atom _ v => if barred.contains v.trimAscii.toString then some s!"'{v.trimAscii}' is not allowed in a proof" else none
  | s@(.node _ k args) =>
    if (k == ``Parser.Tactic.config || k == ``Parser.Tactic.valConfigItem || k == ``Parser.Tactic.posConfigItem)
        && !isLiteral s then
      some "a tactic's settings may only be literals, and not 'native'"
    else args.findSome? (refused barred)
  | _ => none

/-- Words of commands that would have Lean run code of the file, or mean something else by the words of the proof. -/
def barredCommands : List String :=
  ["macro", "macro_rules", "elab", "elab_rules", "syntax", "run_cmd", "run_elab", "run_meta", "run_tac", "by_elab",
   "#eval", "#eval!", "initialize", "builtin_initialize", "simproc", "dsimproc", "simproc_decl", "implemented_by",
   "extern", "csimp", "unsafe", "include_str", "native_decide", "sorry", "admit", "axiom", "attribute", "init_quot"]

def plainAttributes : List Name :=
  [`simp, `reducible, `inline, `ext, `grind, `elab_as_elim, `irreducible, `specialize, `instance, `class, `refl]

partial def badAttribute : Syntax → Option String
  | .node _ ``Parser.Attr.simple args =>
    if (args[0]?.map fun a => plainAttributes.contains a.getId).getD false then none else some "an attribute is not allowed"
  | .node _ _ args => args.findSome? badAttribute
  | _ => none

/-- A notation that gives a sign another meaning: one of its new signs is a sign already. -/
def redefined (env : Environment) (cmd : Syntax) : Option String := do
  guard (cmd.isOfKind ``Parser.Command.notation || cmd.isOfKind ``Parser.Command.mixfix)
  let left := cmd.getArgs.toList.takeWhile fun s => !(s.isAtom && s.getAtomVal.trimAscii.toString == "=>")
  let rec signs : Syntax → List String
    | s@(.node _ _ args) => (s.isStrLit?.map fun t => [t.trimAscii.toString]).getD (args.toList.flatMap signs)
    | _ => []
  let sign ← (left.flatMap signs).find? fun t => ((Parser.getTokenTable env).find? t).isSome
  some s!"a notation may not give '{sign}' another meaning"

/-- Why a command may not stand before a theorem; `none` if it may. -/
def refusedCommand (barred : List String) (env : Environment) (cmd : Syntax) : Option String :=
  refused barred cmd <|> badAttribute cmd <|> redefined env cmd

/-- In a context, what a proof rests on tells of axioms and holes, so that lemmas without a proof may stand there. -/
def barredInContext : List String := barredCommands.filter (!["sorry", "admit", "axiom"].contains ·)

/-- The text as a sequence of tactics; nothing may be left over. -/
def parseTactics (p : Proof) (text : String) : Except Failure Syntax := do
  let env := p.core.env
  let ictx := Parser.mkInputContext text "<tactic>"
  let fn := Parser.andthenFn Parser.whitespace Parser.Tactic.tacticSeq.fn
  let pmctx := { env, options := p.coreCtx.options, currNamespace := p.coreCtx.currNamespace,
                 openDecls := p.coreCtx.openDecls }
  let s := fn.run ictx pmctx (Parser.getTokenTable env) (Parser.mkParserState text)
  unless s.allErrors.isEmpty do throw { kind := "tactic", text := s.toErrorMsg ictx }
  unless ictx.atEnd s.pos do throw { kind := "tactic", text := (s.mkError "end of input").toErrorMsg ictx }
  let stx := s.stxStack.back
  if let some text := refused barred stx then throw { kind := "forbidden", text }
  return stx

/-! ## The top level -/

/-- Elaborate `src` command by command on this thread, keeping the info trees; a command that `why` names a reason
against ends it with that message. -/
partial def elabSrc (st : Command.State) (src : String) (heartbeats : Nat)
    (why : Environment → Syntax → Option String := fun _ _ => none) :
    IO (Command.State × Array InfoTree × Array Syntax) := do
  let ictx := Parser.mkInputContext src "<input>"
  let scopes := st.scopes.map fun s => { s with opts := limit s.opts heartbeats }
  let rec go (ps : Parser.ModuleParserState) (st : Command.State) (log : MessageLog)
      (trees : Array InfoTree) (cmds : Array Syntax) := do
    let scope := st.scopes.head!
    let pctx := { env := st.env, options := scope.opts, currNamespace := scope.currNamespace,
                  openDecls := scope.openDecls }
    let pos := ps.pos
    let (cmd, ps, log) := Parser.parseCommand ictx pctx ps log
    if let some text := why st.env cmd then
      let message : Message := { fileName := ictx.fileName, pos := ictx.fileMap.toPosition pos, data := text }
      return ({ st with messages := log.add message }, trees, cmds)
    let ctx : Command.Context := {
      cmdPos := pos, fileName := ictx.fileName, fileMap := ictx.fileMap, snap? := none,
      cancelTk? := none }
    let st := { st with messages := {}, infoState := { enabled := true } }
    match ← ((Command.elabCommandTopLevel cmd).run ctx |>.run st).toIO' with
    | .error e => throw <| IO.userError (← e.toMessageData.toString)
    | .ok (_, st) =>
      let log := log ++ st.messages
      let trees := trees ++ st.infoState.trees.toArray
      if Parser.isTerminalCommand cmd then return ({ st with messages := log }, trees, cmds)
      else go ps st log trees (cmds.push cmd)
  go {} { st with scopes } {} #[] #[]

/-- Add the commands of a theorem's context, and have the kernel check what they declare. -/
def extend (base : Base) (context : String) (heartbeats : Nat) : IO (Except Failure Base) := do
  let (st, _, _) ← elabSrc base.st context heartbeats (refusedCommand barredInContext)
  if st.messages.hasErrors then return .error (failure "statement" ("context: " ++ (← errorsOf st.messages)))
  let new := st.env.constants.map₂.foldl (init := ({} : Std.HashMap Name ConstantInfo)) fun m n c =>
    if base.kernel.contains n then m else m.insert n c
  try
    return .ok { st := { st with messages := {}, infoState := {} }, kernel := ← base.kernel.replay new }
  catch e => return .error (failure "statement" ("context: the kernel refuses it: " ++ toString e))

partial def findHole (c : Option ContextInfo) : InfoTree → Option (ContextInfo × TacticInfo)
  | .context i t => findHole (i.mergeIntoOuter? c) t
  | .node i cs =>
    match c, i with
    | some ci, .ofTacticInfo ti =>
      if ti.stx.isOfKind ``Lean.Parser.Tactic.tacticSorry then some (ci, ti)
      else cs.toList.findSome? (findHole c)
    | _, _ => cs.toList.findSome? (findHole c)
  | .hole _ => none

def ppGoals (p : Proof) : IO Json := do
  let act : MetaM (List String) := p.goals.mapM fun g => return (← Meta.ppGoal g).pretty
  match ← (act.run' {} p.metaSt |>.run' p.coreCtx p.core).toIO' with
  | .ok gs => return toJson gs
  | .error _ => throw <| IO.userError "the goals cannot be printed"

/-- Run `act` on a state; the result is a failure or the new state. -/
def step (p : Proof) (heartbeats : Nat) (act : Tactic.TacticM Unit) : IO (Except Failure Proof) := do
  IO.setNumHeartbeats 0
  let ctx := { p.coreCtx with
    initHeartbeats := 0, maxHeartbeats := units heartbeats
    options := limit p.coreCtx.options heartbeats }
  let x : TermElabM Tactic.State := do
    let (_, s) ← (act.run { elaborator := .anonymous, recover := false }).run { goals := p.goals }
    Term.synthesizeSyntheticMVarsNoPostponing
    return s
  match ← ((x.run p.termCtx p.termSt).run {} p.metaSt |>.run ctx { p.core with messages := {} }).toIO' with
  | .error e => return .error (failure "tactic" (← e.toMessageData.toString))
  | .ok (((s, termSt), metaSt), core) =>
    if core.messages.hasErrors then return .error (failure "tactic" (← errorsOf core.messages))
    return .ok { p with core, metaSt, termSt, goals := s.goals }

/-- The statement as a proof to begin: `binders : type`, elaborated as a theorem of the top level. -/
def start (base : Base) (statement : String) (heartbeats : Nat) : IO (Except Failure Proof) := do
  let head := "theorem _statement " ++ statement ++ "\n"
  let (st, trees, cmds) ← elabSrc base.st (head ++ ":= by sorry") heartbeats
  if st.messages.hasErrors then return .error (failure "statement" (← errorsOf st.messages))
  let whole := match cmds with
    | #[cmd] => (cmd.find? (·.isOfKind ``Parser.Command.declValSimple)).bind (·.getPos?) == some head.rawEndPos
    | _ => false
  unless whole do return .error { kind := "statement", text := "expected one statement: binders, colon and type" }
  let some (ci, ti) := trees.findSome? (findHole none) | return .error { kind := "statement", text := "no goal found" }
  let [root] := ti.goalsBefore | return .error { kind := "statement", text := "expected one goal" }
  let p : Proof := {
    coreCtx := { fileName := "<tactic>", fileMap := default, options := limit ci.options heartbeats,
                 currNamespace := ci.currNamespace, openDecls := ci.openDecls }
    core := { env := ci.env, ngen := ci.ngen }
    metaSt := { mctx := ti.mctxBefore }, termCtx := { declName? := ci.parentDecl?, errToSorry := false }
    termSt := {}, goals := [root], root, type := default, levels := [], hyps := #[], kernel := base.kernel }
  let out ← IO.mkRef p
  let r ← step p heartbeats do
    root.withContext do
      let hyps := (← getLCtx).foldl (init := #[]) fun xs d =>
        if d.isImplementationDetail then xs else xs.push d.toExpr
      let type ← instantiateMVars (← mkForallFVars hyps (← root.getType))
      if type.hasMVar || type.hasFVar then throwError "the statement is not complete"
      if type.hasSorry then throwError "the statement contains sorry"
      let levels := (collectLevelParams {} type).params.toList
      out.set { p with type, levels, hyps, termSt := { levelNames := levels } }
  match r with
  | .error e => return .error { e with kind := "statement" }
  | .ok _ => return .ok (← out.get)

/-! ## The check of a finished proof -/

def native : List Name :=
  [`Lean.reduceBool, `Lean.reduceNat, `Lean.ofReduceBool, `Lean.ofReduceNat, `Lean.trustCompiler]

/-- Have the kernel check `d` in `env`, after every constant it needs that `env` lacks. What `src` holds is not
trusted: a tactic can switch the kernel off (`debug.skipKernelTC`) while it adds lemmas. -/
partial def addChecked (src : Environment) (env : Environment) (d : ConstantInfo) (max : Nat) :
    Except Failure Environment := do
  let mut env := env
  let value := (d.value? (allowOpaque := true)).getD (.sort .zero)
  for c in d.type.getUsedConstants ++ value.getUsedConstants do
    if native.contains c then throw { kind := "unsound", text := s!"the proof rests on compiled code ({c})" }
    unless env.contains c do
      let some ci := src.find? c | throw { kind := "unsound", text := s!"unknown constant {c}" }
      env ← addChecked src env ci max
  let decl ← match d with
    | .thmInfo v => pure (.thmDecl v)
    | .defnInfo v => pure (.defnDecl v)
    | .opaqueInfo v => pure (.opaqueDecl v)
    | _ => throw { kind := "unsound", text := s!"the proof adds {d.name}, neither a theorem nor a definition" }
  if d.isUnsafe || d.isPartial then
    throw { kind := "unsound", text := s!"the proof adds {d.name}, which is unsafe or partial" }
  match env.addDeclCore max.toUSize decl none with
  | .ok env' => return env'
  | .error .deterministicTimeout => throw { kind := "timeout", text := s!"kernel: too many heartbeats for {d.name}" }
  | .error _ => throw { kind := "unsound", text := s!"the kernel rejects {d.name}" }

/-- Axioms `n` rests on. Only the exported part of the library is shipped, where a theorem has no body and so looks
like an axiom; the module system records what each constant really was. -/
def axiomsOf (env : Environment) (n : Name) : Array String :=
  let (_, s) := ((CollectAxioms.collect n).run env).run {}
  s.axioms.filter (fun a => match getOriginalConstKind? env a with
    | some .axiom => true
    | some _ => false
    | none => true) |>.map toString

/-- No goals left: close the proof over the statement's hypotheses, check it afresh against the statement, and list
its axioms. -/
def finish (p : Proof) (heartbeats : Nat) : IO (Except Failure (Array String)) := do
  let out ← IO.mkRef (none : Option Expr)
  let r ← step { p with goals := [p.root] } heartbeats do
    p.root.withContext do
      let value ← instantiateMVars (← mkLambdaFVars p.hyps (← instantiateMVars (.mvar p.root)))
      if value.hasSorry then throwError "the proof contains sorry"
      if value.hasExprMVar then throwError "the proof contains metavariables"
      if value.hasFVar then throwError "the proof refers to itself"
      out.set (value.replaceLevel fun | .mvar _ => some .zero | _ => none)
  match r, ← out.get with
  | .error e, _ => return .error (failure "unsound" e.text)
  | .ok p', some value =>
    let thm : TheoremVal := { name := `_statement_checked, levelParams := p.levels, type := p.type, value }
    IO.setNumHeartbeats 0
    return (addChecked p'.core.env p.kernel (.thmInfo thm) (units heartbeats)).map (axiomsOf · thm.name)
  | .ok _, none => return .error { kind := "unsound", text := "no proof" }

end Repl
