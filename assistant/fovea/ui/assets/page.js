// Runs once when the page is loaded: where citations lead.
() => {
  const open = (tab) => document.querySelector(`#${tab}-button`)?.click();
  const show = (citation, tries = 20) => {
    const card = document.getElementById(citation);
    if (!card) { if (tries) setTimeout(show, 50, citation, tries - 1); return; }
    const drawn = card.querySelector('a[href^="#layers-"]');
    if (drawn) layers(drawn, false);
    document.querySelectorAll(".is-cited").forEach((other) => other.classList.remove("is-cited"));
    card.classList.add("is-cited");
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    card.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
    card.focus({ preventScroll: true });
  };
  // A link such as #layers-E2-E3 names the evidence whose layers are to be seen.
  const layers = (link, only) => document.dispatchEvent(new CustomEvent("fovea:layers",
    { detail: { evidence: link.getAttribute("href").split("-").slice(1), only } }));

  // Gradio gives the field no name of its own for screen readers.
  document.querySelector("#fovea-box textarea")?.setAttribute("aria-label", "Question");

  document.addEventListener("click", (event) => {
    // Gradio keeps the last choice of files; choosing the same file again would do nothing.
    if (event.target.matches?.('#fovea-box input[type="file"]')) { event.target.value = ""; return; }
    const link = event.target.closest?.('a[href*="#cite-"], a[href*="#layers-"]');
    if (!link) return;
    event.preventDefault();
    event.stopPropagation();
    const [, kind, id] = link.getAttribute("href").match(/#(cite|layers)-([A-Za-z0-9_-]+)$/) ?? [];
    if (kind === "layers") {
      open("fovea-image");
      layers(link, true);
      setTimeout(() => document.querySelector(".fv-stage")?.scrollIntoView({ block: "nearest" }), 60);
    } else if (kind === "cite") {
      open("fovea-evidence");
      setTimeout(show, 60, `cite-${id}`);
    }
  }, true);
}
