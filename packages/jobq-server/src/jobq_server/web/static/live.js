// Renews the parts of a page that the server marks as live, selects all jobs of a list, and suggests what can be
// searched for. Everything else works without this script.
"use strict";

(() => {
  const keep = (part) => {
    const open = new Set([...part.querySelectorAll("details[open]")].map((one) => one.id));
    const ticked = new Set([...part.querySelectorAll("input[type=checkbox]:checked")].map((one) => one.value));
    const active = part.contains(document.activeElement) ? document.activeElement : null;
    const focused = active && { id: active.id, href: active.getAttribute("href"), value: active.value };
    const scrolls = [...part.querySelectorAll("pre")].map((one) => [one.scrollTop, one.scrollLeft]);
    return () => {
      for (const one of part.querySelectorAll("details")) one.open = open.has(one.id);
      for (const one of part.querySelectorAll("input[type=checkbox]")) one.checked = ticked.has(one.value);
      [...part.querySelectorAll("pre")].forEach((one, index) => {
        if (scrolls[index]) [one.scrollTop, one.scrollLeft] = scrolls[index];
      });
      if (!focused) return;
      const same = [...part.querySelectorAll("a, input, button, summary, [tabindex]")].find((one) =>
        focused.id ? one.id === focused.id : focused.href ? one.getAttribute("href") === focused.href
          : focused.value && one.value === focused.value);
      if (same) same.focus({ preventScroll: true });
    };
  };

  const renew = (id, html) => {
    const part = document.getElementById(id);
    const selection = document.getSelection();
    if (!part || (selection && !selection.isCollapsed && part.contains(selection.anchorNode))) return;
    const restore = keep(part);
    part.innerHTML = html;
    restore();
    selecting();
    localTimes(part);
  };

  const localTimes = (part) => {
    for (const one of part.querySelectorAll("time[datetime]")) {
      one.title = `${new Date(one.dateTime).toLocaleString()} (${one.title})`;
    }
  };

  const follow = () => {
    const address = document.body.dataset.live;
    const shown = document.getElementById("live-state");
    if (!address || !shown) return;
    let source = null;
    const say = (text, lost) => {
      shown.hidden = false;
      shown.textContent = text;
      shown.classList.toggle("lost", lost);
    };
    const start = () => {
      if (source || document.hidden) return;
      source = new EventSource(address);
      source.onopen = () => say("live", false);
      source.onerror = () => {
        say("connecting", true);
        if (source.readyState !== EventSource.CLOSED) return;
        stop(); // the browser does not try again after an answer such as 503, or that of a proxy in front
        setTimeout(start, 10_000);
      };
      source.addEventListener("parts", (event) => {
        for (const [id, html] of Object.entries(JSON.parse(event.data))) renew(id, html);
      });
      source.addEventListener("leave", () => location.reload());
    };
    const stop = () => {
      if (source) source.close();
      source = null;
    };
    document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
    addEventListener("pagehide", stop);
    addEventListener("pageshow", start);
    start();
  };

  const selecting = () => {
    const all = document.getElementById("select-all");
    if (!all) return;
    const boxes = () => [...document.querySelectorAll("input[type=checkbox][name=id]")];
    all.hidden = false;
    all.checked = boxes().length > 0 && boxes().every((one) => one.checked);
    all.onchange = () => boxes().forEach((one) => { one.checked = all.checked; });
  };

  const suggesting = () => {
    const where = document.querySelector("select[name=in]");
    const field = document.querySelector("input[name=q]");
    if (!where || !field) return;
    const choose = () => field.setAttribute("list", `known-${where.value}`);
    where.addEventListener("change", choose);
    choose();
  };

  selecting();
  suggesting();
  localTimes(document);
  follow();
})();
