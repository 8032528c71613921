// The official TypeScript SDK, measured from inside as the others are; see worker.py.
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [what, job] = [process.argv[2], JSON.parse(process.argv[3])];
const sdk = join(job.node_modules, "@openai", "codex-sdk", "dist", "index.js");
const { Codex } = await import(pathToFileURL(sdk));

const codex = new Codex({ codexPathOverride: job.codex });
const startThread = () => codex.startThread({ sandboxMode: "read-only", skipGitRepoCheck: true });

const contenders = {
  async typescript_stream() {
    const { events } = await startThread().runStreamed("go");
    let count = 0;
    for await (const _ of events) count += 1;
    return { events: count };
  },
  async typescript_turn() {
    await startThread().run("hello");
    return {};
  },
};

for await (const _ of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const numbers = await contenders[what]();
  console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000, ...numbers }));
}
