// A headless Chromium over its debugging pipe: as much of the protocol as the tests of the page need.
// https://chromedevtools.github.io/devtools-protocol/

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE = 30_000;

export class Browser {
  static async start(program) {
    const folder = await mkdtemp(join(tmpdir(), "page-"));
    const child = spawn(program, [
      "--headless=new", "--remote-debugging-pipe", `--user-data-dir=${folder}`, "--no-first-run", "--disable-gpu",
      // The tests may run as root and in a container; only the daemon's own page is opened.
      "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--disable-extensions", "--force-color-profile=srgb", "--lang=en-GB", "--hide-scrollbars",
      "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    return new Browser(child, folder);
  }

  constructor(child, folder) {
    Object.assign(this, { child, folder, last: 0, waiting: new Map(), listeners: [] });
    let rest = "";
    child.stdio[4].on("data", (data) => {
      const parts = (rest + data).split("\0");
      rest = parts.pop();
      for (const part of parts) this.take(JSON.parse(part));
    });
    child.on("exit", (code) => {
      for (const { reject } of this.waiting.values()) reject(new Error(`the browser ended with ${code}`));
    });
  }

  take(message) {
    if (message.id === undefined) {
      for (const listener of this.listeners) listener(message);
      return;
    }
    const { resolve, reject, method } = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (message.error) reject(new Error(`${method}: ${message.error.message}`));
    else resolve(message.result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.last;
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject, method }));
  }

  async open(address, { width = 1280, height = 800, dark = false } = {}) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId, targetId);
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await page.send(`${domain}.enable`);
    await page.size(width, height);
    await page.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
    if (address) await page.go(address);
    return page;
  }

  async stop() {
    await Promise.race([this.send("Browser.close").catch(() => {}), new Promise((resolve) => setTimeout(resolve, 3000))]);
    this.child.kill("SIGKILL");
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

export class Page {
  constructor(browser, session, target) {
    Object.assign(this, { browser, session, target, errors: [], failed: [] });
    browser.listeners.push(({ method, params, sessionId }) => {
      if (sessionId !== session) return;
      if (method === "Runtime.exceptionThrown") this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) {
        this.errors.push(params.args.map((arg) => arg.value ?? arg.description).join(" "));
      }
      if (method === "Log.entryAdded" && params.entry.level === "error") this.errors.push(`${params.entry.text} ${params.entry.url ?? ""}`);
      if (method === "Network.responseReceived" && params.response.status >= 400) this.failed.push(`${params.response.status} ${params.response.url}`);
    });
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  /** Its connections go with it. */
  close() {
    return this.browser.send("Target.closeTarget", { targetId: this.target });
  }

  size(width, height) {
    return this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  }

  async go(address) {
    await this.send("Page.navigate", { url: address });
    await this.until(() => document.readyState === "complete" && document.querySelector("nav a[aria-current]"), "the page");
  }

  /** What `fn` returns in the page. */
  async run(fn, ...args) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression: `(${fn})(...${JSON.stringify(args)})`, awaitPromise: true, returnByValue: true, userGesture: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until `fn` returns something true, and returns it. */
  async until(fn, what, ...args) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      let value;
      // While a page loads there is none to ask.
      try { value = await this.run(fn, ...args); } catch (error) { value = null; this.last = error; }
      if (value) return value;
      if (Date.now() > end) {
        const text = await this.run(() => document.body.innerText).catch(() => "");
        throw new Error(`${what} did not come in ${PATIENCE / 1000} s (${fn})\n--- the page says:\n${text}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** Clicks what `selector` finds, with these words in it if any are given, by the mouse. */
  async click(selector, words) {
    const at = await this.until((selector, words) => {
      const found = [...document.querySelectorAll(selector)].find((each) => !words || each.textContent.trim() === words);
      if (!found || found.disabled) return null;
      found.scrollIntoView({ block: "nearest" });
      const box = found.getBoundingClientRect();
      const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
      const top = document.elementFromPoint(x, y);
      return box.width > 0 && (found === top || found.contains(top)) ? { x, y } : null;
    }, `${selector} ${words ?? ""}`, selector, words);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.send("Input.dispatchMouseEvent", { type, ...at, button: "left", clickCount: 1 });
    }
  }

  async type(text) {
    await this.send("Input.insertText", { text });
  }

  /** A key with `{ alt, shift }`. */
  async press(key, { alt = false, shift = false, code = key } = {}) {
    const keys = { Enter: 13, Escape: 27, ArrowUp: 38, Tab: 9 };
    const params = {
      key, code, modifiers: (alt ? 1 : 0) + (shift ? 8 : 0), windowsVirtualKeyCode: keys[key] ?? key.toUpperCase().charCodeAt(0),
      text: key === "Enter" ? "\r" : undefined,
    };
    await this.send("Input.dispatchKeyEvent", { type: params.text ? "keyDown" : "rawKeyDown", ...params });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...params, text: undefined });
  }

  async picture() {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }
}
