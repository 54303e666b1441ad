// Node's fetch has to see why a large body was refused.
//
//     refused.mjs ADDRESS
import assert from "node:assert/strict";

const address = process.argv[2];
const MIB = 1 << 20;
// Path, MiB, status; the server takes 10 MiB.
const refused = [
  ["/classify?top_k=0", 8, 400],
  ["/nowhere", 9, 404],
  ["/classify", 12, 413],
  ["/classify", 32, 413],
];

for (const [path, size, expected] of refused) {
  for (let attempt = 0; attempt < 6; attempt++) {
    const body = Buffer.alloc(size * MIB, "x");
    const answer = await fetch(`http://${address}${path}`, { method: "POST", body });
    assert.equal(answer.status, expected, `${path}, ${size} MiB`);
    const problem = await answer.json();
    assert.equal(problem.status, expected);
  }
}
