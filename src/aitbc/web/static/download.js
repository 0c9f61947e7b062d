// Downloads an export with its progress, and says whether all of it came; without this script the link is a plain download.
"use strict";
const TAIL = 65536;

async function download(link, shown) {
  const answer = await fetch(link.href);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const [pieces, words] = [[], new TextDecoder()];
  let [bytes, lines, tail] = [0, 0, ""];
  for await (const piece of parts(answer.body.getReader())) {
    pieces.push(piece);
    bytes += piece.length;
    for (const byte of piece) if (byte === 10) lines += 1;
    tail = (tail + words.decode(piece, {stream: true})).slice(-TAIL);
    shown.textContent = `${lines.toLocaleString()} lines, ${(bytes / 1048576).toFixed(1)} MiB`;
  }
  const last = tail.trimEnd().split("\n").pop();
  if (!last.startsWith('{"end":')) throw new Error("the export was cut short");
  const {end} = JSON.parse(last);
  const file = document.createElement("a");
  file.href = URL.createObjectURL(new Blob(pieces, {type: "application/jsonl"}));
  file.download = link.download;
  file.click();
  setTimeout(() => URL.revokeObjectURL(file.href), 60000);
  shown.textContent = `Complete: ${end.records.toLocaleString()} records up to block ${end.height}, ${(bytes / 1048576).toFixed(1)} MiB. Its head is ${end.head}.`;
}

async function* parts(reader) {
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[download]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || link.ariaBusy === "true" || !link.dataset.progress) return;
  event.preventDefault();
  link.ariaBusy = "true";
  const shown = document.getElementById(link.dataset.progress);
  try {
    await download(link, shown);
  } catch (error) {
    shown.textContent = `That did not work: ${error.message}. Try it again.`;
  }
  link.ariaBusy = "false";
});
