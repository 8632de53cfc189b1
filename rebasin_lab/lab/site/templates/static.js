// Runs the components of widgets on a page without a kernel. A plain script: pages of the file
// system can load no modules. `define` has the code of each component, see static_widgets.py.
(() => {
  "use strict";
  const components = {};

  function define(key, css, load) {
    components[key] = { css, load };
  }

  // What a component asks of its model. Nothing leaves the page.
  class StaticModel {
    isStatic = true; // for a component that says what only a kernel can do
    constructor({ state, buffers }) {
      this.state = state;
      this.callbacks = {};
      for (const [path, data] of buffers) {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const parent = path.slice(0, -1).reduce((value, name) => value[name], state);
        parent[path.at(-1)] = new DataView(bytes.buffer);
      }
    }
    get(name) {
      return this.state[name];
    }
    set(name, value) {
      const before = this.state[name];
      this.state[name] = value;
      if (before === value && Object(value) !== value) return;
      this.fire(`change:${name}`, this, value);
      this.fire("change", this);
    }
    fire(event, ...values) {
      for (const callback of [...(this.callbacks[event] ?? [])]) callback(...values);
    }
    on(event, callback) {
      (this.callbacks[event] ??= []).push(callback);
    }
    off(event, callback) {
      for (const name of event ? [event] : Object.keys(this.callbacks)) {
        const kept = (this.callbacks[name] ?? []).filter((each) => callback && each !== callback);
        this.callbacks[name] = kept;
      }
    }
    save_changes() {}
    send() {}
  }

  async function start(element) {
    const known = components[element.dataset.component];
    known.loaded ??= known.load(); // once, as a module is
    const component = typeof known.loaded === "function" ? await known.loaded() : known.loaded;
    const model = new StaticModel(JSON.parse(element.querySelector("script").textContent));
    if (known.css && !document.getElementById(element.dataset.component)) {
      const style = document.createElement("style");
      style.id = element.dataset.component;
      style.textContent = known.css;
      document.head.append(style);
    }
    const before = [...element.childNodes];
    const el = document.createElement("div");
    element.append(el); // it has a width while it is drawn
    try {
      await component.initialize?.({ model });
      await component.render({ model, el });
    } catch (error) {
      el.remove();
      throw error;
    }
    for (const each of before) each.remove();
  }

  // COMPONENTS

  // One that fails leaves what stands in its place.
  for (const element of document.querySelectorAll(".rl-static-widget")) {
    start(element).catch((error) => console.error(error));
  }
})();
