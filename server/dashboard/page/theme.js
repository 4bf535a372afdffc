// Before the first paint, hence no module: the theme that was chosen here, or else the system's.
(() => {
  try {
    const chosen = localStorage.getItem("wattline-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be closed to us; the system's theme will do.
  }
})();
