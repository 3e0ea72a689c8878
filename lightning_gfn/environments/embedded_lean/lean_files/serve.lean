/- A server on stdin and stdout: one JSON object a line. Replies begin with `@@` and repeat the request's `id`, which
nobody but the client can know. -/
open Lean Meta Elab

namespace Repl

structure Store where
  bases : Std.HashMap Nat Base := {}
  proofs : Std.HashMap Nat Proof := {}
  next : Nat := 0

def fresh (r : IO.Ref Store) : IO Nat := r.modifyGet fun s => (s.next, { s with next := s.next + 1 })

def answer : Except Failure Json → Json
  | .ok j => j
  | .error e => json% { error : $(e.text), kind : $(e.kind) }

def saveProof (r : IO.Ref Store) (p : Proof) : IO Json := do
  let goals ← ppGoals p
  let n ← fresh r
  r.modify fun s => { s with proofs := s.proofs.insert n p }
  return json% { goals : $goals, state : $n }

def saveBase (r : IO.Ref Store) (b : Base) : IO Json := do
  let n ← fresh r
  r.modify fun s => { s with bases := s.bases.insert n b }
  return json% { env : $n }

def importBase (fix : Environment → IO Environment) (imports : Array String) : IO Base := do
  let env ← importModules (imports.map fun m => { module := m.toName }) {} (loadExts := true)
  let env ← fix env
  return { st := Command.mkState env {} {}, kernel := env }

def tactic (p : Proof) (text : String) (heartbeats : Nat) : IO (Except Failure Proof) := do
  match parseTactics p text with
  | .error e => return .error e
  | .ok stx => step p heartbeats (Tactic.evalTactic stx *> Tactic.pruneSolvedGoals)

/-- One tactic after the other, then the check. -/
def script (p : Proof) (tactics : Array String) (heartbeats finishing : Nat) : IO (Except Failure Json) := do
  let mut p := p
  for h : i in [0:tactics.size] do
    if p.goals.isEmpty then return .error { kind := "tactic", text := s!"no goals are left for tactic {i + 1}" }
    match ← tactic p tactics[i] heartbeats with
    | .error e => return .error { e with text := s!"tactic {i + 1}: {e.text}" }
    | .ok p' => p := p'
  unless p.goals.isEmpty do return .error { kind := "tactic", text := "unsolved goals remain" }
  return (← finish p finishing).map fun axs => json% { done : true, axioms : $axs }

def handle (fix : Environment → IO Environment) (r : IO.Ref Store) (j : Json) : IO Json := do
  let get {α : Type} [FromJson α] (k : String) (d : α) : α := (j.getObjValAs? α k).toOption.getD d
  let heartbeats := get "heartbeats" 20000
  let finishing := get "finish_heartbeats" (5 * heartbeats)
  for n in (get "drop" #[] : Array Nat) do r.modify fun s => { s with proofs := s.proofs.erase n }
  for n in (get "drop_env" #[] : Array Nat) do r.modify fun s => { s with bases := s.bases.erase n }
  let base : IO Base := do
    let some b := (← r.get).bases[(get "env" 0 : Nat)]? | throw <| IO.userError "unknown env"
    return b
  match get "cmd" "" with
  | "ping" => return json% { version : $(Lean.versionString), states : $((← r.get).proofs.size) }
  | "import" =>
    try saveBase r (← importBase fix (get "imports" #["Init"]))
    catch e => return answer (.error { kind := "statement", text := s!"imports: {e}" })
  | "extend" =>
    match ← extend (← base) (get "context" "") (get "context_heartbeats" (10 * heartbeats)) with
    | .error e => return answer (.error e)
    | .ok b => saveBase r b
  | "start" =>
    match ← start (← base) (get "statement" "") (max heartbeats 20000) with
    | .error e => return answer (.error e)
    | .ok p => saveProof r p
  | "tac" =>
    let some p := (← r.get).proofs[(get "state" 0 : Nat)]? | throw <| IO.userError "unknown state"
    match ← tactic p (get "tac" "") heartbeats with
    | .error e => return answer (.error e)
    | .ok p =>
      if !p.goals.isEmpty then return (← saveProof r p)
      return answer ((← finish p finishing).map fun axs => json% { done : true, axioms : $axs })
  | "check" =>
    match ← start (← base) (get "statement" "") (max heartbeats 20000) with
    | .error e => return answer (.error e)
    | .ok p => return answer (← script p (get "script" #[]) heartbeats finishing)
  | "split" =>
    match ← splitSource (← base) (get "source" "") heartbeats with
    | .error e => return answer (.error e)
    | .ok parts => return Json.mkObj (parts.map fun (k, v) => (k, toJson v))
  | c => throw <| IO.userError s!"unknown command {c}"

partial def loop (fix : Environment → IO Environment) (r : IO.Ref Store) : IO Unit := do
  let line ← (← IO.getStdin).getLine
  if line.isEmpty then return
  let out ← match Json.parse line with
    | .error e => pure (json% { fault : $e })
    | .ok j =>
      let t ← IO.monoNanosNow
      let o ← try handle fix r j catch e => pure (json% { fault : $(toString e) })
      pure <| (o.setObjVal! "id" (j.getObjValD "id")).setObjVal! "us" (((← IO.monoNanosNow) - t) / 1000 : Nat)
  let o ← IO.getStdout
  o.putStrLn ("@@" ++ out.compress)
  o.flush
  loop fix r

def serve (fix : Environment → IO Environment) : IO UInt32 := do
  let r ← IO.mkRef ({} : Store)
  IO.println "@@{\"ready\":true}"
  loop fix r
  return 0

end Repl
