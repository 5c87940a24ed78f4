// Keys of the page, and the mark at the line of the editor where a program failed. Nothing is fetched or evaluated here.
(() => {
  const TABS = ["Code", "Compare", "Evolution", "Learning", "Evaluation", "Run"];
  const BUTTONS = { p: "take", y: "accept", n: "dismiss", u: "undo" };  // with Alt
  const find = (selector) => document.querySelector(selector);
  const isShown = (element) => element && element.offsetParent !== null;
  const press = (id) => {
    const button = find(`#${id}`);
    if (isShown(button) && !button.disabled) button.click();
  };
  const openTab = (number) => {
    const tabs = [...document.querySelectorAll("#tabs [role=tab]")];
    tabs.find((tab) => tab.textContent.trim() === TABS[number - 1])?.click();
  };

  // The letter or digit; macOS makes others of them with Alt.
  const keyOf = (event) =>
    (/^[!-~]$/.test(event.key) ? event.key : event.code.replace(/^(Key|Digit)/, "")).toLowerCase();

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      press("stop");
      press("compare-stop");
    } else if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      event.preventDefault();
      event.stopPropagation();  // the editor would start a line
      press(isShown(find("#compare-run")) ? "compare-run" : "run");
    } else if (event.altKey && !event.ctrlKey && !event.metaKey) {
      const key = keyOf(event);
      if (key >= "1" && key <= String(TABS.length)) openTab(Number(key));
      else if (key === "q") find(isShown(find("#question")) ? "#question textarea" : "#compare-question textarea")?.focus();
      else if (key === "e") find("#editor .cm-content")?.focus();
      else if (key in BUTTONS) press(BUTTONS[key]);
      else return;
      event.preventDefault();
    }
  }, true);

  // What lies over the line at which the program failed, until the program is another. CodeMirror watches its own
  // content, so the mark is a child of what scrolls.
  let mark = null;
  let shown = null;
  const viewOf = (content) => (content?.cmTile ?? content?.cmView)?.view;  // CodeMirror's, by either of its names
  const unmark = () => {
    mark?.element.remove();
    mark = null;
  };
  const put = (row) => {
    const content = find("#editor .cm-content");
    const view = viewOf(content);
    const number = Number(row.querySelector("td").textContent);
    if (!view || !(number >= 1 && number <= view.state.doc.lines)) return;
    const line = view.state.doc.line(number);
    const place = view.lineBlockAt(line.from);
    const element = document.createElement("div");
    element.className = "failed-line";
    element.style.top = `${content.offsetTop + view.documentPadding.top + place.top}px`;
    element.style.height = `${place.height}px`;
    const note = document.createElement("span");
    note.textContent = `◂ ${row.querySelector(".note").textContent}`;
    const end = view.coordsAtPos(line.to)?.left - view.scrollDOM.getBoundingClientRect().left + view.scrollDOM.scrollLeft;
    const left = Number.isFinite(end) ? end : content.offsetLeft + line.length * view.defaultCharacterWidth;
    note.style.marginLeft = `${left + 3 * view.defaultCharacterWidth}px`;
    element.append(note);
    view.scrollDOM.append(element);
    view.dispatch({ selection: { anchor: line.to }, scrollIntoView: true });
    mark = { element, view, program: view.state.doc };
  };
  new MutationObserver(() => {
    if (mark && mark.view.state.doc !== mark.program) unmark();
    const verdict = find("#verdict .verdict");
    if (verdict === shown) return;
    shown = verdict;
    unmark();
    const row = verdict?.querySelector("tr.it");
    if (row) put(row);
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
})();
