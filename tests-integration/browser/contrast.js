// Returns the texts of the page whose contrast to what is behind them is below WCAG AA.
() => {
  const channels = (text) => {
    const found = text.match(/-?[\d.]+(?:e-?\d+)?/g).map(Number);
    const values = text.startsWith("color(") ? found.slice(0, 3).map((one) => one * 255) : found.slice(0, 3);
    return [...values, found.length > 3 ? found[3] : 1];
  };
  const over = (top, below) => {
    const share = top[3];
    return [0, 1, 2].map((index) => top[index] * share + below[index] * (1 - share)).concat(1);
  };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const known = new Map();
  const background = (element) => {
    if (!element) return dark ? [18, 18, 18, 1] : [255, 255, 255, 1];
    if (!known.has(element)) {
      known.set(element, over(channels(getComputedStyle(element).backgroundColor), background(element.parentElement)));
    }
    return known.get(element);
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour.slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility() || element.closest("option, title, .skip")) continue;
    const style = getComputedStyle(element);
    const behind = background(element);
    const [light, dim] = [luminance(over(channels(style.color), behind)), luminance(behind)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dim + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${node.textContent.trim().slice(0, 40)}`);
  }
  return bad;
}
