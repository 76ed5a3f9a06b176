// The page with code, for what stands in the form of the playground in this tab.

const page = document.querySelector("[data-code]");
const draft = sessionStorage.getItem(`draft:${page.dataset.model}`);

if (draft) {
  const answer = await fetch(`/${page.dataset.model}/api`, {
    method: "POST",
    headers: { "hx-request": "true", "content-type": "application/x-www-form-urlencoded" },
    body: draft,
  }).catch(() => null);
  if (answer?.headers.get("content-type")?.startsWith("text/html")) {
    // Made by this server from escaped text, as the part that it takes the place of.
    const part = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("code");
    if (part) document.getElementById("code").replaceWith(part);
  }
}
page.dataset.ready = "yes";
