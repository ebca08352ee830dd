// Keys of the review page: 1..9 levels, f then 1..9 (or shift+1..9) problems, u back, s skip, h meaning of the levels.
(() => {
  const UNREAD = 250; // milliseconds in which nobody has read a new reply: a second press was meant for the one before
  const one = (selector) => document.querySelector(selector);
  const press = (element) => element && element.offsetParent && element.click();
  const inFlags = (element) => element.closest("#flags") !== null;
  const typing = (element) => element.matches("input:not([type=radio]), textarea, select, [contenteditable=true]");

  // by the key's character where it is a digit, else by its place, so that layouts with digits on shift work too
  const digit = (event) => {
    const place = /^Digit([0-9])$/.exec(event.code);
    if (/^[0-9]$/.test(event.key)) return { number: Number(event.key), shifted: false };
    return place ? { number: Number(place[1]), shifted: event.shiftKey } : null;
  };

  const chooseFlag = (number) => {
    const option = document.querySelectorAll("#flags input[type=radio]")[number];
    if (option) option.click();
    if (document.activeElement && inFlags(document.activeElement)) document.activeElement.blur();
  };

  const act = (event) => {
    const pressed = digit(event);
    if (pressed) {
      if (pressed.shifted || inFlags(event.target)) chooseFlag(pressed.number);
      else press(document.querySelectorAll("#levels button")[pressed.number - 1]);
      return true;
    }
    switch (event.key) {
      case "f":
        one("#flags input:checked")?.focus();
        return true;
      case "u":
        press(one("#back"));
        return true;
      case "s":
        press(one("#skip"));
        return true;
      case "h":
        one("#reminder details")?.toggleAttribute("open");
        return true;
      case "Escape":
        document.activeElement?.blur();
        return true;
      case "Enter":
        if (event.target.closest("button, summary, a")) return false; // the focused one's own key
        press(one("#flag-only"));
        return true;
    }
    return false;
  };

  document.addEventListener("keydown", (event) => {
    // a key held down must not judge reply after reply
    if (event.repeat || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing(event.target)) {
      if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    } else if (performance.now() - since >= UNREAD && act(event)) event.preventDefault();
  });

  // a mouse leaves the focus where it clicked; digits and Enter shall mean levels and verdicts again
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest("button, #flags")) setTimeout(() => document.activeElement?.blur());
  });

  // a new reply is read from its beginning
  let reply = "";
  let since = 0;
  new MutationObserver(() => {
    const now = one("#card .reply")?.textContent ?? "";
    if (now === reply) return;
    reply = now;
    since = performance.now();
    scrollTo(0, 0);
  }).observe(document, { childList: true, subtree: true, characterData: true });

  // a new name begins its own queue, and stays in the address, so that a reload goes on as the same rater
  document.addEventListener("change", (event) => {
    if (!event.target.closest("#rater")) return;
    const address = new URL(location.href);
    address.searchParams.set("rater", event.target.value.trim());
    history.replaceState(null, "", address);
    one("#renamed").click();
  });
})();
