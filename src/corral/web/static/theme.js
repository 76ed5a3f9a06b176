// Before the first paint: the theme that the visitor chose here, if any; else the system's applies.
(() => {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
