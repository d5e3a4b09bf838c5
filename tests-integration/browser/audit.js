// Returns the elements that a person with a keyboard or a screen reader could not use.
() => {
  const shown = (one) => one.checkVisibility();
  const unnamed = [...document.querySelectorAll("button, a, input:not([type=hidden]), select, textarea")].filter(
    (one) => shown(one) && !(one.innerText.trim() || one.ariaLabel || one.title || (one.labels && one.labels.length)),
  );
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  const twice = ids.filter((id, index) => ids.indexOf(id) !== index);
  const pictures = [...document.querySelectorAll("svg")].filter(
    (one) => one.getAttribute("aria-hidden") !== "true" && !one.ariaLabel,
  );
  return [...unnamed, ...pictures].map((one) => one.outerHTML.slice(0, 200)).concat(twice);
}
