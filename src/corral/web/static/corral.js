// What every page does by script: theme, copying, the link that signs in, and the token that forms carry.

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const THEME_SIGNS = { system: "◐", light: "☀", dark: "☾" };

/** The themes in the order in which the button goes through them: the first press changes what is seen. */
function themes() {
  return systemIsDark.matches ? ["system", "light", "dark"] : ["system", "dark", "light"];
}

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function switchTheme() {
  const order = themes();
  const next = order[(order.indexOf(theme()) + 1) % order.length];
  if (next === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("theme");
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
  }
  showTheme();
  document.dispatchEvent(new CustomEvent("corral:theme"));
}

function showTheme() {
  const button = document.querySelector("[data-theme-switch]");
  const order = themes();
  const next = order[(order.indexOf(theme()) + 1) % order.length];
  const name = (each) => (each === "system" ? "the system's" : each);
  button.textContent = THEME_SIGNS[theme()];
  button.setAttribute("aria-label", `Theme: ${name(theme())}. Change to ${name(next)}`);
  button.title = button.getAttribute("aria-label");
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Without permission, or over plain HTTP from another machine: select it, so that one key press copies.
    getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => (button.textContent = said), 2000);
}

function followLink(form) {
  const token = location.hash.slice(1);
  if (!token) return;
  // Out of the history before it is used, so that no later page or person finds it.
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.link.value = token;
  form.elements.key.required = false;
  form.submit();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if ("themeSwitch" in button.dataset) switchTheme();
  if (button.dataset.copy) copy(button);
});

document.addEventListener("htmx:configRequest", (event) => {
  const token = document.querySelector('meta[name="csrf-token"]');
  if (token && event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = token.content;
});

// A refusal is a part of the page too: show it where the answer would have been.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400 && event.detail.xhr.getResponseHeader("content-type")?.startsWith("text/html")) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

systemIsDark.addEventListener("change", showTheme);
showTheme();

const signIn = document.querySelector("[data-sign-in]");
if (signIn) followLink(signIn);
