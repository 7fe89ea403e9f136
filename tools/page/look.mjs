// Owns what is looked at inside the page: contrast of all text, names of all that can be reached, sideways scrolling.

/** Runs in the page. Text whose contrast is below WCAG's AA, each with its colours and ratio. */
export function contrasts() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (x) => { const y = x / 255; return y <= 0.04045 ? y / 12.92 : ((y + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const bad = [];
  let looked = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walk.nextNode(); text; text = walk.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest("script,noscript,.visually-hidden,.skip")) continue;
    const style = getComputedStyle(node), svg = node instanceof SVGElement;
    const [a, b] = [light(rgba(svg ? style.fill : style.color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    looked += 1;
    if (ratio < (large ? 3 : 4.5)) bad.push(`${text.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return { looked, bad };
}

/** Runs in the page. What breaks the basics for people who don't see it or don't point at it. */
export function basics() {
  const bad = [], say = (what, node) => bad.push(`${what}: ${node.outerHTML.slice(0, 100)}`);
  if (!document.documentElement.lang) bad.push("the page has no language");
  if (document.querySelectorAll("h1").length !== 1) bad.push("the page has not one h1");
  if (document.querySelectorAll("main:not([hidden])").length !== 1) bad.push("the page has not one main");
  const named = (node) => node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.textContent.trim();
  for (const node of document.querySelectorAll("button,a,[role=img],[role=region],[tabindex]")) if (!named(node)) say("no name", node);
  for (const node of document.querySelectorAll("img:not([alt])")) say("no alt", node);
  for (const node of document.querySelectorAll("[aria-labelledby],[aria-describedby]")) {
    for (const id of `${node.getAttribute("aria-labelledby") ?? ""} ${node.getAttribute("aria-describedby") ?? ""}`.split(" ").filter(Boolean)) {
      if (!document.getElementById(id)) say(`names #${id}, which is not there`, node);
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push(`#${id} stands twice`);
  let level = 0;
  for (const node of document.querySelectorAll("h1,h2,h3,h4")) {
    const own = Number(node.tagName[1]);
    if (own > level + 1) say("a level of headings is missing", node);
    level = own;
  }
  for (const table of document.querySelectorAll("table")) if (!table.querySelector("th")) say("a table without headings", table);
  for (const node of document.querySelectorAll("button")) {
    const box = node.getBoundingClientRect();
    if (node.checkVisibility() && (box.width < 24 || box.height < 24)) say("too small to hit", node);
  }
  return bad;
}

/** Runs in the page. How far it scrolls sideways, and what sticks out. */
export function sideways() {
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("main *")].filter((node) => !node.closest(".visually-hidden,.scroll") && node.getBoundingClientRect().right > innerWidth + 1);
  return { over, out: out.slice(0, 5).map((node) => node.outerHTML.slice(0, 100)) };
}
