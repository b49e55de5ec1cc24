// Keeps a page up to date: parts come over /events (see docs/api.md), times are counted here.
"use strict";
(() => {
  // The words of core/wording.py.
  const two = (a, unit, b, small) => `${a} ${unit}` + (b ? ` ${b} ${small}` : "");
  const duration = (seconds) => {
    const s = Math.max(0, Math.floor(seconds)), m = Math.floor(s / 60), h = Math.floor(m / 60);
    if (s < 60) return `${s} s`;
    if (m < 60) return two(m, "min", s % 60, "s");
    return s < 172800 ? two(h, "h", m % 60, "min") : `${Math.floor(h / 24)} days`;
  };
  const estimate = (s) => {
    if (s <= 0) return "any moment";
    if (s < 8) return "in a few seconds";
    if (s < 57.5) return `about ${5 * Math.round(s / 5)} s`;
    return s < 600 ? `about ${duration(30 * Math.round(s / 30))}` : "more than 10 min";
  };
  const within = (s) => estimate(s).replace(/^(?=about|more)/, "in ");
  const left = (s) => {
    if (s <= 0) return "any moment";
    if (s < 60) return `in ${duration(s)}`;
    if (s < 3600) return `in ${Math.floor(s / 60)} min`;
    return s < 172800 ? `in ${Math.floor(s / 3600)} h` : "not by itself";
  };
  if (typeof module === "object") { module.exports = { duration, estimate, within, left }; return; }

  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const kept = (act) => { try { return act(localStorage); } catch { /* forget */ } };
  root.dataset.theme = kept((all) => all.theme) || "";

  let ahead = null; // seconds of the server's clock before ours, once known
  const count = (part) => {
    if (ahead === null) return;
    const now = Date.now() / 1000 + ahead;
    const put = (name, words) => {
      for (const el of part.querySelectorAll(`[data-${name}]`)) {
        const text = words(el.dataset[name], el);
        if (el.textContent !== text) el.textContent = text;
      }
    };
    put("since", (then) => duration(now - then));
    put("until", (then, el) => ("in" in el.dataset ? within : estimate)(then - now));
    put("left", (then) => left(then - now));
  };

  const live = (view) => {
    let source, heard, next = 0, tries = 0, lost = "", paused = "", hidden, rev = "";
    const late = new Map();
    const time = (at) => new Date(at).toTimeString().slice(0, 8);
    const say = (dot, words) => {
      $("dot").className = `dot ${dot}`;
      if ($("link").textContent !== words) $("link").textContent = words;
    };
    const held = (el) => { // by focus, selection or typing
      const marked = getSelection();
      return el.contains(document.activeElement) || (!marked.isCollapsed && marked.containsNode(el, true)) ||
        [...el.querySelectorAll("input")].some((one) => one.matches(":autofill") ||
          one.value !== one.defaultValue || one.checked !== one.defaultChecked);
    };
    const reload = (build) => { // once for each
      if (held($("main"))) return;
      history.replaceState(build, "");
      location.reload();
    };
    const apply = () => {
      for (const [id, html] of late) {
        const el = $(id);
        if (el && held(el)) continue;
        late.delete(id);
        if (!el) continue;
        const open = [...el.querySelectorAll("details[open] [id]")].map((inside) => inside.id);
        el.innerHTML = html;
        for (const fold of open) if ($(fold)) $(fold).closest("details").open = true;
        count(el);
      }
    };
    const close = () => { if (source) source.close(); source = null; };
    const retry = (wait) => {
      close();
      lost = lost || time(heard);
      next = Date.now() + wait * 1000;
    };
    const failed = () => {
      retry(Math.min(30, 2 ** tries++) * (0.7 + 0.6 * Math.random()));
      if (tries > 2) fetch("/healthz").then((answer) => { // it is there, without a place for us
        if (answer.ok && next) reload(history.state);
      }, () => {});
    };
    const open = () => {
      next = 0;
      heard = Date.now();
      say("", "Connecting…");
      source = new EventSource(`/events?view=${view}&rev=${rev}`);
      source.onerror = () => source.readyState === 2 ? failed() : say("", "Reconnecting…");
      const on = (name, act) => source.addEventListener(name, (event) => { heard = Date.now(); act(event.data); });
      on("part", (data) => {
        const end = data.indexOf("\n");
        late.set(data.slice(0, end), data.slice(end + 1));
      });
      on("meta", (data) => {
        const meta = JSON.parse(data);
        if (meta.build !== root.dataset.build && meta.build !== history.state) reload(meta.build);
        ahead = meta.now - Date.now() / 1000;
        rev = meta.rev;
        tries = 0;
        lost = "";
        say("on", "Live");
        apply();
        if (meta.title) document.title = meta.title;
        if (meta.icon && $("icon").getAttribute("href") !== meta.icon) $("icon").href = meta.icon;
        if (meta.say) $("say").textContent = meta.say;
      });
      on("bye", (data) => {
        const bye = JSON.parse(data);
        if (bye.why === "signed-out") location.reload();
        else retry(bye.wait);
      });
    };
    const tick = () => {
      if (paused) return;
      count(document);
      apply();
      if (source && Date.now() - heard > 25000) failed();
      if (!next) return;
      const wait = Math.ceil((next - Date.now()) / 1000);
      if (wait > 0) say("off", `No connection since ${lost}, trying again in ${wait} s`);
      else open();
    };
    $("pause").onclick = () => {
      paused = paused ? "" : time(Date.now());
      $("pause").textContent = paused ? "Go on" : "Pause";
      close();
      next = 0;
      if (paused) say("off", `Paused at ${paused}`);
      else open();
    };
    const look = () => { // unseen: no stream
      clearTimeout(hidden);
      if (document.hidden) hidden = setTimeout(() => { close(); next = 0; }, 30000);
      else if (!source && !next && !paused) open();
    };
    document.addEventListener("visibilitychange", look);
    if ($("printed")) addEventListener("beforeprint", () => { $("printed").textContent = new Date().toLocaleString(); });
    $("live").hidden = false;
    look();
    setInterval(tick, 1000);
  };

  document.addEventListener("DOMContentLoaded", () => {
    const select = $("theme").querySelector("select");
    select.value = root.dataset.theme;
    select.onchange = () => {
      root.dataset.theme = select.value;
      kept((all) => { all.theme = select.value; });
    };
    $("theme").hidden = false;
    if (document.body.dataset.view) live(document.body.dataset.view);
  });
})();
