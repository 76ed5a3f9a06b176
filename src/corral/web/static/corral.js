// What every page does by script: theme, copying, the link that signs in, and the token that forms carry.

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  document.dispatchEvent(new CustomEvent("corral:theme"));
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

const signIn = document.querySelector("[data-sign-in]");
if (signIn) followLink(signIn);
