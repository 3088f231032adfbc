// SPDX-License-Identifier: Apache-2.0
// What the console adds on top of plain HTML: dialogs, paused polling, one submit per press, copy, zone.
// Every page reads and posts without this file.
(function () {
  "use strict";

  const dialog = document.getElementById("dialog");

  // The zone of the browser, for the times the server writes. One cookie, no personal data.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.includes("prism_zone=" + encodeURIComponent(zone))) {
    document.cookie = "prism_zone=" + encodeURIComponent(zone) + ";path=/;max-age=31536000;samesite=lax" +
      (location.protocol === "https:" ? ";secure" : "");
  }

  // A refused form: to its first wrong field, or to what is said above it.
  function toRefusal(root) {
    const field = root.querySelector("[aria-invalid=true]"), said = root.querySelector("[role=alert]");
    if (!field && said) { said.tabIndex = -1; }
    const found = field || said;
    if (found) { found.focus(); }
    return Boolean(found);
  }
  function complain(text) {
    const note = document.createElement("p");
    note.className = "note bad";
    note.setAttribute("role", "alert");
    note.textContent = text;
    (dialog && dialog.open ? dialog.querySelector(".body") : document.getElementById("main")).prepend(note);
  }
  if (document.querySelector("main form[method=post]")) { toRefusal(document.querySelector("main")); }

  // Dialogs: htmx loads the page's dialog form into #dialog, the browser's own <dialog> does the rest.
  document.addEventListener("htmx:afterSwap", function (event) {
    if (!dialog || event.detail.target !== dialog || !dialog.firstElementChild) { return; }
    if (!dialog.open) { dialog.showModal(); }
    const first = dialog.querySelector("[autofocus], .cancel");
    if (!toRefusal(dialog) && first) { first.focus({ preventScroll: true }); }
  });
  // What a dialog asks for may be gone, or not allowed any more: the answer says so where it was asked.
  document.addEventListener("htmx:beforeSwap", function (event) {
    const answer = event.detail.xhr;
    if (event.detail.target !== dialog || answer.status < 400 || !answer.getResponseHeader("X-Request-ID")) { return; }
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  });
  if (dialog) {
    dialog.addEventListener("close", function () { dialog.replaceChildren(); });
    dialog.addEventListener("click", function (event) {
      const inside = event.target.closest("[data-close]");
      if (inside) { event.preventDefault(); dialog.close(); }
    });
  }

  // A hidden tab asks for nothing; an open menu, dialog or half-filled form is not swapped away under the hand.
  document.addEventListener("htmx:beforeRequest", function (event) {
    const element = event.detail.elt;
    if (!element.hasAttribute("data-poll")) { return; }
    const typing = element.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
    const ticked = Array.from(element.querySelectorAll("input[type=checkbox]")).some(function (box) {
      return box.checked !== box.defaultChecked;
    });
    const menu = element.querySelector("details[open]");
    const shut = element.id === "drawer-list" && drawer.hidden;
    if (document.hidden || typing || ticked || menu || shut || (dialog && dialog.open)) { event.preventDefault(); }
  });

  // What a tab has already is not sent again: the server answers 304 to the tag of the part it sent last.
  document.addEventListener("htmx:configRequest", function (event) {
    const element = event.detail.elt;
    if (element.partTag && element.hasAttribute("data-poll")) { event.detail.headers["If-None-Match"] = element.partTag; }
  });
  document.addEventListener("htmx:afterRequest", function (event) {
    const element = event.detail.elt;
    if (element.hasAttribute("data-poll") && event.detail.xhr.status === 200) {
      element.partTag = event.detail.xhr.getResponseHeader("ETag");
    }
    // What this page is about was deleted: the server says so.
    if (element.hasAttribute("data-poll") && event.detail.xhr.status === 404) { location.reload(); }
  });

  // The drawer of tasks: beside the page, not over it; stays open from page to page; says aloud only what ended.
  const drawer = document.getElementById("drawer");
  let ended = null;
  function slide(open, focus) {
    if (!drawer || drawer.hidden !== open) { return; }
    drawer.hidden = !open;
    sessionStorage.setItem("drawer", open ? "open" : "");
    marked();
    if (open) { htmx.trigger("#drawer-list", "drawer-open"); } else { ended = null; }
    const next = document.getElementById(open ? "drawer-title" : "bar-tasks");
    if (focus && next) { next.focus(); }
  }
  function marked() {
    const opener = document.getElementById("bar-tasks");
    if (!opener || !drawer) { return; }
    opener.setAttribute("aria-controls", "drawer");
    opener.setAttribute("aria-expanded", String(!drawer.hidden));
  }
  document.addEventListener("htmx:afterSwap", function (event) {
    if (event.detail.target.id === "bar-state") { marked(); }
    if (event.detail.target.id !== "drawer-list") { return; }
    const now = Array.from(event.detail.target.querySelectorAll("[data-ended]"));
    const fresh = ended === null ? [] : now.filter(function (one) { return !ended.has(one.dataset.ended); });
    ended = new Set(now.map(function (one) { return one.dataset.ended; }));
    const said = fresh.map(function (one) { return one.dataset.said; }).join(". ");
    if (said) { document.getElementById("drawer-ends").textContent = said; }
  });
  marked();
  document.addEventListener("DOMContentLoaded", function () {
    if (sessionStorage.getItem("drawer")) { slide(true, false); }
  });

  // On a narrow screen the chosen tab may stand outside of its row.
  document.querySelectorAll(".tabs [aria-current]").forEach(function (tab) {
    const row = tab.parentElement;
    row.scrollLeft = tab.offsetLeft - row.offsetLeft - (row.clientWidth - tab.offsetWidth) / 2;
  });

  // One press, one order: the button goes busy; a refused form (422) brings a fresh one.
  document.addEventListener("submit", function (event) {
    const form = event.target;
    if (form.dataset.sent) { event.preventDefault(); event.stopImmediatePropagation(); return; }
    if (form.method.toLowerCase() !== "post" || form.hasAttribute("data-again")) { return; }
    form.dataset.sent = "1";
    form.querySelectorAll("button[type=submit], button:not([type])").forEach(function (b) { b.classList.add("busy-now"); });
  }, true);
  function release() {
    document.querySelectorAll("form[data-sent]").forEach(function (form) {
      delete form.dataset.sent;
      form.querySelectorAll(".busy-now").forEach(function (b) { b.classList.remove("busy-now"); });
    });
  }
  window.addEventListener("pageshow", release);
  document.addEventListener("htmx:sendError", function (event) {
    release();
    if (event.detail.elt.hasAttribute("data-poll")) { return; }
    complain("This site does not answer. Try again: a form that is sent twice gives one order.");
  });
  document.addEventListener("htmx:responseError", release);

  document.addEventListener("click", function (event) {
    const opener = event.target.closest("[data-drawer]");
    if (opener && drawer && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      slide(drawer.hidden, true);
    }
    if (event.target.closest("[data-drawer-close]")) { slide(false, true); }
    const copy = event.target.closest("[data-copy]");
    if (copy && navigator.clipboard) {
      navigator.clipboard.writeText(copy.dataset.copy).then(function () {
        copy.setAttribute("aria-label", "Copied");
        copy.classList.add("good");
      });
    }
    document.querySelectorAll("details.menu[open]").forEach(function (menu) {
      if (!menu.contains(event.target)) { menu.removeAttribute("open"); }
    });
  });

  // Count of ticked rows in "Protect Selected Entities (n)"; "select all" boxes.
  document.addEventListener("change", function (event) {
    const box = event.target;
    if (!(box instanceof HTMLInputElement)) { return; }
    const form = box.form;
    if (box.dataset.all && form) {
      form.querySelectorAll("input[name=" + box.dataset.all + "]").forEach(function (b) { b.checked = box.checked; });
    }
    counted();
  });
  // Ticks that a refused form or the back button brought again count from the start.
  function counted() {
    document.querySelectorAll("form [data-count]").forEach(function (out) {
      out.textContent = out.closest("form").querySelectorAll("input[name=" + out.dataset.count + "]:checked").length;
    });
  }
  window.addEventListener("pageshow", counted);

  const PLACES = { h: "/", o: "/data-protection/overview/", d: "/data-protection/", r: "/data-protection/remote-sites/",
    v: "/data-protection/inventory/vms/", t: "/tasks/", a: "/alerts/", e: "/events/", u: "/audit/" };
  let going = false;

  function press(key, event) {
    const link = document.querySelector('[data-key="' + key + '"]');
    if (link) { event.preventDefault(); link.click(); }
  }

  // Down and up from the search field through its hits and back.
  function walk(list, event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") { return; }
    const stops = Array.from(list.querySelectorAll("input[type=search], #hits a[href]"));
    const at = stops.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1);
    event.preventDefault();
    if (stops[at]) { stops[at].focus(); }
  }

  function row(by, event) {
    const rows = Array.from(document.querySelectorAll("main tbody tr")).filter(function (one) {
      return one.querySelector("a[href], input[type=checkbox]") && !one.closest(".calendar");
    });
    const now = rows.findIndex(function (one) { return one.contains(document.activeElement); });
    const next = rows[now < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, now + by))];
    if (next) { event.preventDefault(); next.querySelector("a[href], input[type=checkbox]").focus(); }
  }

  function tick(event) {
    const here = document.activeElement && document.activeElement.closest("tr");
    const box = here && here.querySelector("input[type=checkbox]");
    if (box) { event.preventDefault(); box.click(); }
  }

  // Arrow keys walk the bars of a timeline and the days of a calendar; Enter follows, as on every link.
  function step(steps, event) {
    const links = Array.from(steps.querySelectorAll("a[href]"));
    const at = links.indexOf(event.target);
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: links.length - 1 };
    if (at < 0 || !(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) { return; }
    event.preventDefault();
    const next = links[Math.min(links.length - 1, Math.max(0, moves[event.key]))];
    next.focus();
  }

  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") {
      document.querySelectorAll("details.menu[open]").forEach(function (menu) { menu.removeAttribute("open"); });
      if (drawer && drawer.contains(document.activeElement)) { slide(false, true); }
    }
    const steps = event.target.closest && event.target.closest("[data-steps]");
    if (steps) { step(steps, event); }
    const list = event.target.closest && event.target.closest("[data-list]");
    if (list) { walk(list, event); }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { press("k", event); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || (dialog && dialog.open) ||
      event.target.matches("input, textarea, select, [contenteditable]")) { return; }
    if (going && event.key in PLACES) { event.preventDefault(); location.assign(PLACES[event.key]); return; }
    going = event.key === "g";
    if (going) { setTimeout(function () { going = false; }, 1500); }
    if (event.key === "?") { press("?", event); }
    if (event.key === "t" && drawer) { event.preventDefault(); slide(drawer.hidden, true); }
    if (event.key === "j" || event.key === "k") { row(event.key === "j" ? 1 : -1, event); }
    if (event.key === "x") { tick(event); }
    if (event.key === "/") {
      const search = document.querySelector("main input[type=search]");
      if (search) { event.preventDefault(); search.focus(); } else { press("k", event); }
    }
  });
}());
