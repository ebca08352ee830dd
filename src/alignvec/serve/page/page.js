// Slider readings, the levels' buttons, arrow keys as releases, and copying.
(() => {
  const SETTLED = 400; // milliseconds after the last arrow key, when a slider counts as let go
  const range = (element) => element.closest(".knob")?.querySelector("input[type=range]");

  window.alignvecReading = (name, value, positions) => {
    const [mark, at] = Object.entries(positions).reduce((best, next) =>
      Math.abs(next[1] - value) < Math.abs(best[1] - value) ? next : best);
    const exact = Math.abs(at - value) < 1e-9;
    const sliders = [...document.querySelectorAll(".knob input[type=range]")];
    for (const slider of sliders)
      if (slider.getAttribute("aria-label")?.endsWith(` ${name}`) && Number(slider.value) === value)
        slider.setAttribute("aria-valuetext", `${value}, ${exact ? mark : `near ${mark}`}`);
    const span = document.createElement("span");
    span.className = "reading";
    span.textContent = exact ? mark : `near ${mark}`;
    return span.outerHTML;
  };

  window.alignvecCopy = async (text) => {
    const said = (words) => `<p role="status" class="status">${words}</p>`;
    try {
      await navigator.clipboard.writeText(text);
      return said("Copied.");
    } catch {
      // no clipboard without https or permission: the old way
      const box = document.createElement("textarea");
      box.value = text;
      box.style.cssText = "position:fixed;opacity:0";
      document.body.append(box);
      box.select();
      const copied = document.execCommand("copy");
      box.remove();
      return said(copied ? "Copied." : "The browser does not let the page copy: select the text below.");
    }
  };

  const release = (slider) => slider.dispatchEvent(new Event("pointerup", { bubbles: true }));

  document.addEventListener("click", (event) => {
    const mark = event.target.closest?.(".mark");
    const slider = mark && range(mark);
    if (!slider) return;
    slider.value = mark.dataset.value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => release(slider));
  });

  let settling;
  document.addEventListener("keyup", (event) => {
    if (!event.target.matches?.(".knob input[type=range]") || event.key === "Tab") return;
    clearTimeout(settling);
    settling = setTimeout(() => release(event.target), SETTLED);
  });
})();
