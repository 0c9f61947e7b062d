// Checks a receipt in the browser, as `aitbc receipt verify` does: both signatures, the sums, and the way to the root of its block.
"use strict";
const UNIT = 10n ** 8n;
const text = new TextEncoder();

const canonical = (value) => {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value && typeof value === "object") {
    return `{${Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
  }
  return JSON.stringify(value);
};
const sha = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const joined = (...parts) => new Uint8Array(parts.flatMap((part) => [...part]));
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const digest = (name) => new Uint8Array(name.slice(7).match(/../g).map((pair) => parseInt(pair, 16)));
const base64 = (words) => Uint8Array.from(atob(words.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const units = (amount) => {
  const [whole, part = ""] = amount.split(".");
  return BigInt(whole) * UNIT + BigInt(part.padEnd(8, "0"));
};
const signed = async (key, bytes, signature) => {
  const made = await crypto.subtle.importKey("raw", base64(key), "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", made, base64(signature), bytes);
};
const without = (object, name) => Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));

async function rootOf(record, {index, path, block}) {
  let [top, at, last, step] = [await sha(joined([0], record)), index, block.records - 1, 0];
  while (last) {
    if (at & 1) top = await sha(joined([1], digest(path[step++]), top));
    else if (at < last) top = await sha(joined([1], top, digest(path[step++])));
    [at, last] = [at >> 1, last >> 1];
  }
  return step === path.length ? `sha256:${hex(top)}` : "";
}

const CHECKS = {
  sums: ({receipt}) => {
    const [price, fee, earned] = [receipt.price, receipt.fee, receipt.earned].map(units);
    return fee + earned === price && fee === (price * BigInt(receipt.fee_basis_points) + 5000n) / 10000n;
  },
  miner: ({receipt}) => {
    const {attempt, input_digest, job, kind, miner, output_digest, token} = receipt;
    const statement = {attempt, input_digest, job, kind, miner, output_digest, token, statement: "aitbc.work.v1"};
    return signed(receipt.miner_key, text.encode(canonical(statement)), receipt.miner_signature);
  },
  node: ({receipt}) => signed(receipt.node_key, text.encode(canonical(without(receipt, "node_signature"))), receipt.node_signature),
  block: async ({proof}) => {
    if (!proof) return null;
    const header = text.encode(canonical(proof.block));
    return `sha256:${hex(await sha(header))}` === proof.hash && signed(proof.block.node_key, header, proof.signature);
  },
  path: async ({receipt, proof}) => {
    if (!proof) return null;
    return await rootOf(await sha(text.encode(canonical(receipt))), proof) === proof.block.merkle_root;
  },
};

const TRIES = 60;

/** Checks the file in the page, and shows what holds; whether it has a block. */
async function verify() {
  const proof = document.getElementById("proof");
  const result = document.getElementById("verdict");
  const file = JSON.parse(document.getElementById("file").textContent);
  let holds = true;
  for (const [name, check] of Object.entries(CHECKS)) {
    const line = proof.querySelector(`[data-check=${name}]`);
    let found;
    try { found = await check(file); } catch (error) { found = false; line.append(` (${error.name})`); }
    if (found !== null) line.classList.add(found ? "good" : "bad");
    holds = holds && found === true;
  }
  result.textContent = holds
    ? "Checked by your browser: the receipt is genuine and sealed in its block."
    : file.proof ? "Your browser could not confirm this receipt." : "The signatures were checked. Its block comes within a second, and is then checked too.";
  result.className = `notice ${holds ? "good" : file.proof ? "bad" : "warn"}`;
  return Boolean(file.proof);
}

document.addEventListener("DOMContentLoaded", async () => {
  for (let tries = 0; !await verify() && tries < TRIES; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const answer = await fetch(location.href).catch(() => null);
    if (!answer?.ok) continue;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    page.morph(document.getElementById("main"), fresh.getElementById("main"));
    page.times(document.getElementById("main"));
  }
});
