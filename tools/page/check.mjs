// Looks at the live page of a running worker in a real Chromium, and at what it must not do. Usage: check.mjs URL SHOTS_DIR WARM_SECONDS
// Exit status 1 when anything is wrong; the screenshots are for a person to look at.
import { mkdirSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { chromium } from "playwright-core";
import { basics, contrasts, sideways } from "./look.mjs";

const [url, shots, warm] = [process.argv[2], process.argv[3], Number(process.argv[4] ?? 20)];
mkdirSync(shots, { recursive: true });
const found = [];
const expect = (holds, what) => { console.log(`${holds ? "ok  " : "FAIL"} ${what}`); if (!holds) found.push(what); };

const context = await chromium.launchPersistentContext(process.env.PAGE_PROFILE ?? "", {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
  viewport: { width: 1280, height: 900 },
  colorScheme: "light",
  reducedMotion: "reduce",
});
const page = context.pages()[0] ?? await context.newPage();
page.on("console", (message) => { if (["error", "warning"].includes(message.type())) found.push(`console: ${message.text()}`); });
page.on("pageerror", (error) => found.push(`script: ${error.message}`));
const requests = [];
page.on("request", (request) => requests.push(request.url()));

const answer = await page.goto(url);
expect(answer.status() === 200, "the page is there");
expect((answer.headers()["content-security-policy"] ?? "").startsWith("default-src 'none'"), "a strict content policy is set");
await page.waitForSelector("#live:not([hidden])", { timeout: 60_000 });
const text = (selector) => page.textContent(selector);
const delivered = async () => Number((await text("[data-f=rate_note]")).replace(/\D/g, ""));
// Until enough was delivered that there is something to draw.
for (let n = 0; n < 300 && (await delivered()) < 40; n++) await wait(1000);
const before = await delivered();
await wait(warm * 1000);
expect((await delivered()) > before, `numbers move (${before} to ${await delivered()} delivered)`);
expect((await text("[data-f=state]")) === "ready", "the worker is ready and the page says so");
expect(Number.parseFloat(await text("[data-f=rate]")) > 0, `a rate is shown (${await text("[data-f=rate]")} a second)`);
expect((await page.locator("#rates path.f-pass").count()) === 1, "the chart of rates is drawn");
const labels = await page.locator("#scores svg text.strong").allTextContents();
const status = await (await context.request.get(new URL("status", url).href)).json();
const wanted = status.scores.flatMap((score) => score.rules).flatMap((rule) => ["min", "max", "review_below", "review_above"].filter((name) => rule[name] !== null));
expect(wanted.length > 0 && labels.length === wanted.length, `every threshold is drawn and labelled (${labels.join("; ")})`);
expect((await page.locator("#scores line.bound").count()) === wanted.length, "each has its line");
expect((await page.locator("#languages figure").count()) >= 2, "languages are told apart");
const why = await text("#rejects tr td:nth-child(3)");
expect((await page.locator("#rejects tr").count()) > 1 && why.length > 8, `rejects say why (${why})`);
expect(status.rejects.every((reject) => reject.text === undefined) === !process.env.PAGE_SHOW_TEXT, "texts are shown only where that was asked for");

for (const scheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
  const { looked, bad } = await page.evaluate(contrasts);
  expect(looked > 40 && bad.length === 0, `${scheme}: all ${looked} texts have the contrast they need ${bad.slice(0, 5).join("; ")}`);
  for (const width of [1280, 360]) {
    await page.setViewportSize({ width, height: 900 });
    await wait(1500);
    const { over, out } = await page.evaluate(sideways);
    expect(over <= 0, `${scheme}, ${width} px: nothing scrolls sideways ${out.join(" ")}`);
    await page.screenshot({ path: `${shots}/${scheme}-${width}.png`, fullPage: true });
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await wait(1200);
  await page.screenshot({ path: `${shots}/${scheme}-top.png` });
}
const wrong = await page.evaluate(basics);
expect(wrong.length === 0, `names, headings and tables are in order ${wrong.join("; ")}`);

await page.focus("#rates");
await page.keyboard.press("ArrowLeft");
await page.keyboard.press("ArrowLeft");
expect((await text("#readout")).includes(" ago: pass"), `the keyboard reads the chart (${await text("#readout")})`);
await page.keyboard.press("Escape");
await page.click("#pause");
const held = await text("[data-f=uptime]");
await wait(2500);
expect((await text("[data-f=uptime]")) === held, "a paused page stands still");
await page.click("#pause");
await wait(2500);
expect((await text("[data-f=uptime]")) !== held, "and goes on");

const origin = new URL(url).origin;
const away = requests.filter((request) => new URL(request).origin !== origin);
expect(away.length === 0, `no request goes anywhere else (${requests.length} in all) ${away.join(" ")}`);
expect(found.filter((what) => /^(console|script)/.test(what)).length === 0, "the console is silent");

// The worker can't be reached: the page must say so. That the browser logs the refusals is its duty.
const silent = found.length;
await page.route("**/events", (route) => route.abort());
await page.goto(url, { waitUntil: "commit" });
await page.waitForFunction(() => !document.getElementById("stale").hidden, undefined, { timeout: 30_000 });
expect((await text("#stale")).length > 10, `a lost connection is said (${await text("#stale")})`);
await page.unroute("**/events");
await page.waitForSelector("#stale[hidden]", { state: "attached", timeout: 30_000 });
expect(true, "and the page finds back by itself");
found.splice(silent, found.length, ...found.slice(silent).filter((what) => !what.startsWith("console")));

// Without a script it is a table.
const plain = await context.browser()?.newContext({ javaScriptEnabled: false });
if (plain) {
  const bare = await plain.newPage();
  await bare.goto(url);
  expect((await bare.textContent("table.facts")).includes("Delivered: pass"), "without a script there is a table");
}
await context.close();
if (found.length) { console.error(`\n${found.length} wrong:\n  ${found.join("\n  ")}`); process.exit(1); }
