// What Gradio's own elements leave unsaid to those who listen to the page: whether a fold is open, whose button it is,
// and what has changed elsewhere. Elements with `data-say` are read out when their text becomes another one.
(() => {
  const said = document.createElement("div");
  said.className = "sr-only announcer";
  said.setAttribute("role", "status");
  let last = "", asked = false;

  const set = (element, name, value) => {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };

  const look = () => {
    asked = false;
    if (!said.isConnected) document.body.append(said);
    for (const fold of document.querySelectorAll("button.label-wrap")) {
      set(fold, "aria-expanded", String(fold.classList.contains("open")));
      fold.querySelector(".icon")?.setAttribute("aria-hidden", "true");
    }
    for (const row of document.querySelectorAll(".model-row")) {
      const model = row.querySelector(".repo input")?.getAttribute("aria-label");
      for (const button of model ? row.querySelectorAll("button.remove, button.label-wrap, .lambda button") : []) {
        const shown = button.querySelector("span") ?? button;
        button.dataset.name ??= button.getAttribute("aria-label") ?? shown.innerText.trim();
        set(button, "aria-label", `${button.dataset.name}: ${model}`);
      }
    }
    const now = [...document.querySelectorAll("[data-say]")].filter((one) => one.checkVisibility());
    const words = (one) => [...one.childNodes].filter((node) => node.ariaHidden !== "true").map((node) => node.textContent);
    const text = now.flatMap(words).join(" ").trim();
    if (text !== last) said.textContent = last = text;
  };

  const options = { subtree: true, childList: true, attributes: true, attributeFilter: ["class", "style"] };
  new MutationObserver(() => {
    if (!asked) requestAnimationFrame(look);
    asked = true;
  }).observe(document.documentElement, options);
})();
