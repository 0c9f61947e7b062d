// What every page has: times that say how long ago, copies, regions that are fetched again, drafts, and the banner of a lost connection.
"use strict";
document.documentElement.classList.add("script");

const page = {
  /** Shows the banner with a text, and a link where there is something to do; hides it without a text. */
  banner(text, link) {
    const banner = document.getElementById("banner");
    banner.hidden = !text;
    banner.firstElementChild.textContent = text || "";
    const action = banner.lastElementChild;
    action.hidden = !link;
    if (link) { action.href = link.path; action.textContent = link.label; }
  },

  signedOut() {
    const next = encodeURIComponent(location.pathname + location.search);
    page.banner("Your session has ended. What you typed is kept.", {path: `/sign-in?next=${next}`, label: "Sign in again"});
  },

  /** Why a stream does not come back: nobody is signed in any more, or the server cannot be reached. */
  async ask() {
    try {
      const answer = await fetch("/session", {headers: {Accept: "application/json", "X-By-Itself": "1"}});
      if (answer.status === 401) page.signedOut();
      else if (answer.ok) page.banner("");
      else page.banner("The server is busy. Trying again.");
      return answer.status;
    } catch {
      page.banner("The connection is lost. Trying again.");
      return 0;
    }
  },

  /** Times of this part of the page as how long ago, older ones in the reader's zone; the whole time stays as the title. */
  times(root = document) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (!time.title) time.title = `${at.toISOString()} (${at.toLocaleString()})`;
      const age = (Date.now() - at.getTime()) / 1000;
      time.textContent = Math.abs(age) < 172800 ? page.ago(age) : at.toLocaleString([], {dateStyle: "medium", timeStyle: "short"});
    }
  },

  ago(seconds) {
    const [size, ending] = [Math.abs(seconds), seconds < 0 ? "" : " ago"];
    const [count, unit] = size < 90 ? [size, "s"] : size < 5400 ? [size / 60, "min"] : [size / 3600, "h"];
    return `${seconds < 0 ? "in " : ""}${Math.round(count)} ${unit}${ending}`;
  },

  /** Brings a region into the form of a new one: what is the same stays, with focus and text, and rows are known by their id. */
  morph(old, fresh) {
    const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const same = wanted.id && known.get(wanted.id);
      if (same) {
        if (same !== at) old.insertBefore(same, at); else at = at.nextSibling;
        page.update(same, wanted);
      } else if (at && !at.id && !wanted.id && at.nodeType === wanted.nodeType && at.nodeName === wanted.nodeName) {
        const next = at.nextSibling;
        page.update(at, wanted);
        at = next;
      } else {
        old.insertBefore(wanted, at);
      }
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  },

  update(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.hasAttribute("data-keep")) return;
    if (old.nodeName === "TIME" && old.dateTime === fresh.dateTime) return;
    for (const {name} of [...old.attributes]) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    for (const {name, value} of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (!["INPUT", "TEXTAREA", "SELECT"].includes(old.nodeName)) page.morph(old, fresh);
  },

  /** Markup from the server into a region; the server has escaped what people wrote. */
  put(region, html) {
    const holder = document.createElement(region.nodeName === "TBODY" ? "tbody" : "div");
    const table = document.createElement("template");
    table.innerHTML = html;
    holder.append(table.content);
    page.morph(region, holder);
    page.times(region);
  },

  /** Fetches this page again and brings its live regions up to date. */
  async refresh() {
    let answer;
    try {
      answer = await fetch(location.href, {headers: {Accept: "text/html", "X-By-Itself": "1"}});
    } catch {
      page.banner("The connection is lost. Trying again.");
      return;
    }
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") { page.signedOut(); return; }
    if (!answer.ok) { page.banner("The server is busy. Trying again."); return; }
    page.banner("");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of document.querySelectorAll("[data-live]")) {
      const wanted = fresh.getElementById(region.id);
      if (wanted) page.morph(region, wanted);
    }
    page.times();
  },

  /**
   * An event stream that comes back by itself, from where it was; `on` has a function for each name of an event.
   * A tab that nobody sees has none: a browser opens six connections to one server, and a seventh tab would wait for ever.
   */
  follow(path, on) {
    let source = null, last = "", pause = 500, ended = false;
    const open = () => {
      if (source || ended || document.hidden) return;
      source = new EventSource(last ? `${path}${path.includes("?") ? "&" : "?"}seen=${encodeURIComponent(last)}` : path);
      source.onopen = () => { pause = 500; page.banner(""); };
      source.onerror = async () => {
        if (source?.readyState !== EventSource.CLOSED) { page.banner("The connection is lost. Trying again."); return; }
        source = null;
        if (await page.ask() === 401) return;
        setTimeout(open, pause);
        pause = Math.min(pause * 2, 10000);
      };
      for (const name of Object.keys(on)) {
        source.addEventListener(name, (event) => { if (event.lastEventId) last = event.lastEventId; on[name](JSON.parse(event.data)); });
      }
    };
    const close = () => { source?.close(); source = null; };
    open();
    document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
    addEventListener("pagehide", close);
    addEventListener("pageshow", open);
    return {close: () => { ended = true; close(); }};
  },
};

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (!copy) return;
  await navigator.clipboard.writeText(copy.dataset.copy);
  const label = copy.textContent;
  copy.textContent = "Copied";
  setTimeout(() => { copy.textContent = label; }, 1500);
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
  else setTimeout(() => { for (const button of event.target.querySelectorAll("button")) button.disabled = true; });
});
addEventListener("pageshow", () => { for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false; });

// What is typed is kept in this tab until it was sent: a server that restarts, or a session that ends, loses no form.
function drafts() {
  for (const form of document.querySelectorAll("form[data-draft]")) {
    const place = `draft:${form.dataset.draft}`;
    const fields = [...form.elements].filter((field) => field.name && !["hidden", "file", "password", "submit"].includes(field.type));
    const kept = form.hasAttribute("data-filled") ? null : sessionStorage.getItem(place);
    if (kept) {
      const values = JSON.parse(kept);
      for (const field of fields) if (field.name in values && field.type !== "checkbox") field.value = values[field.name];
    }
    form.addEventListener("input", () => {
      sessionStorage.setItem(place, JSON.stringify(Object.fromEntries(fields.map((field) => [field.name, field.value]))));
    });
  }
  const sent = document.querySelector("[data-draft-sent]");
  if (sent) sessionStorage.removeItem(`draft:${sent.dataset.draftSent}`);
}

document.addEventListener("DOMContentLoaded", () => {
  page.times();
  const zone = document.getElementById("zone");
  if (zone) zone.textContent = `your zone (${Intl.DateTimeFormat().resolvedOptions().timeZone})`;
  const here = document.querySelector(".menu [aria-current]");
  if (here) here.closest("ul").scrollLeft = here.offsetLeft - here.closest("ul").offsetLeft - 40;
  setInterval(() => page.times(), 5000);
  drafts();
  const every = Number(document.body.dataset.refresh || 0);
  if (every) setInterval(() => { if (!document.hidden) page.refresh(); }, every * 1000);
  const code = document.getElementById("code");
  if (code && location.hash.startsWith("#aitbc_link_")) {
    code.value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname + location.search);
    code.form.requestSubmit();
  }
});
