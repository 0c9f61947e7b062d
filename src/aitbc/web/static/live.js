// The streams of the overview and of a job's page.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const market = document.querySelector("[data-market]");
  if (market) {
    page.follow(market.dataset.market, {
      block({height, row}) {
        const rows = document.getElementById("blocks");
        if (document.getElementById(`block-${height}`)) return;
        const holder = document.createElement("template");
        holder.innerHTML = row;
        const fresh = holder.content.firstElementChild;
        fresh.classList.add("fresh");
        rows.prepend(fresh);
        while (rows.children.length > Number(rows.dataset.most)) rows.lastElementChild.remove();
        document.getElementById("no-blocks")?.remove();
        page.times(rows);
      },
      market(regions) {
        for (const [id, html] of Object.entries(regions)) {
          const region = document.getElementById(id);
          if (region) page.put(region, html);
        }
      },
      reset() { location.reload(); },
    });
  }

  const job = document.querySelector("[data-job]");
  if (job) {
    const answer = document.getElementById("answer");
    const log = document.getElementById("log");
    const bar = document.getElementById("progress");
    const stream = page.follow(job.dataset.job, {
      state({state}) {
        page.refresh();
        if (["succeeded", "failed", "canceled", "expired"].includes(state)) stream.close();
      },
      attempt() { if (answer) answer.textContent = ""; page.refresh(); },
      part({text}) { if (answer) { document.getElementById("writing").hidden = false; answer.append(text); } },
      log({text}) { log.append(`${text}\n`); log.scrollTop = log.scrollHeight; },
      progress({progress}) { bar.hidden = false; bar.value = progress; },
    });
  }
});
