// Overlay viewer. Runs inside gr.HTML with `element`, `props` and `watch` at hand.
// Layers, opacity, zoom and keys work in the browser alone: no round trip to the server.
const root = element.querySelector(".fv");
const state = { scene: { pictures: [], current: null }, current: null, opacity: 0.75,
                on: {}, zoom: 1, x: 0, y: 0 };

// Texts only ever enter as text nodes or attributes, never as HTML.
const make = (tag, attributes = {}, ...children) => {
  const node = tag === "svg" || attributes.svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name !== "svg") node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};
const picture = () => state.scene.pictures.find((p) => p.handle === state.current);
const isOn = (layer) => state.on[layer.key] ?? layer.on;

function draw() {
  const shown = picture();
  root.replaceChildren();
  root.classList.toggle("is-empty", !shown);
  if (!shown) {
    root.append(make("p", { class: "fv-hint" },
      "Your photograph appears here, with everything that was segmented as layers on top."));
    return;
  }
  root.append(bar(), stage(shown), legend(shown));
  move();
  fade();
}

function bar() {
  const chooser = make("div", { class: "fv-chooser", role: "group", "aria-label": "Photographs" });
  if (state.scene.pictures.length > 1) {
    for (const each of state.scene.pictures) {
      const button = make("button", { type: "button", "aria-pressed": each.handle === state.current },
        make("img", { src: each.src, alt: "" }), each.title);
      button.onclick = () => { choose(each.handle); draw(); };
      chooser.append(button);
    }
  } else {
    chooser.append(make("span", { class: "fv-title" }, picture().title));
  }
  const zoom = make("div", { class: "fv-zoom", role: "group", "aria-label": "Zoom" });
  for (const [sign, title, factor] of [["−", "Zoom out", 1 / 1.4], ["Fit", "Fit to frame", 0], ["+", "Zoom in", 1.4]]) {
    const button = make("button", { type: "button", "aria-label": title, title }, sign);
    button.onclick = () => zoomBy(factor);
    zoom.append(button);
  }
  return make("div", { class: "fv-bar" }, chooser, zoom);
}

function stage(shown) {
  const canvas = make("div", { class: "fv-canvas" },
    make("img", { class: "fv-photo", src: shown.src, alt: `Retinal photograph ${shown.title}`, draggable: "false" }));
  for (const layer of shown.layers) {
    const drawn = layer.kind === "points" ? points(shown, layer) : raster(layer);
    drawn.dataset.layer = layer.key;
    drawn.classList.add("fv-layer");
    canvas.append(drawn);
  }
  const node = make("div", { class: "fv-stage", tabindex: "0", role: "application",
    "aria-label": "Photograph with layers. Keys 1 to 9 switch layers, square brackets change opacity, plus and minus zoom, arrow keys move, 0 fits." }, canvas);
  node.style.aspectRatio = `${shown.width} / ${shown.height}`;
  node.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = node.getBoundingClientRect();
    zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  node.addEventListener("keydown", key);
  drag(node);
  return node;
}

function raster(layer) {
  if (layer.kind !== "mask") return make("img", { src: layer.src, alt: "", draggable: "false" });
  const node = make("div", {});
  node.style.backgroundColor = layer.colour;
  node.style.maskImage = node.style.webkitMaskImage = `url("${layer.src}")`;
  return node;
}

function points(shown, layer) {
  const size = Math.max(shown.width, shown.height);
  const drawing = make("svg", { viewBox: `0 0 ${shown.width} ${shown.height}`, "aria-hidden": "true" });
  for (const point of layer.points) {
    const r = size * 0.012;
    for (const stroke of ["#000", layer.colour]) {
      const width = stroke === "#000" ? 4 : 1.8;
      const style = { svg: true, fill: "none", stroke, "stroke-width": width, "vector-effect": "non-scaling-stroke" };
      const { x, y } = point;
      drawing.append(
        make("circle", { ...style, cx: x, cy: y, r }),
        make("path", { ...style, d: `M${x - 2 * r} ${y}H${x - r}M${x + r} ${y}H${x + 2 * r}M${x} ${y - 2 * r}V${y - r}M${x} ${y + r}V${y + 2 * r}` }));
    }
    drawing.append(make("text", { svg: true, x: point.x + 1.6 * r, y: point.y - 1.4 * r,
      "font-size": size * 0.024, class: "fv-label" }, point.label));
  }
  return drawing;
}

function legend(shown) {
  const list = make("div", { class: "fv-legend", role: "group", "aria-label": "Layers" });
  shown.layers.forEach((layer, index) => {
    const box = make("input", { type: "checkbox" });
    box.checked = isOn(layer);
    box.dataset.toggle = layer.key;
    box.onchange = () => { state.on[layer.key] = box.checked; fade(); };
    const swatch = make("span", { class: `fv-swatch fv-${layer.kind}` });
    swatch.style.backgroundColor = layer.colour;
    list.append(make("label", {}, box, swatch, make("span", { class: "fv-name" }, layer.label),
      make("a", { href: `#cite-${layer.evidence}` }, layer.evidence),
      ...(index < 9 ? [make("kbd", { title: `Press ${index + 1}` }, String(index + 1))] : [])));
  });
  const slider = make("input", { type: "range", min: "0", max: "100", step: "5", "aria-label": "Opacity of the layers" });
  slider.value = String(Math.round(state.opacity * 100));
  slider.className = "fv-opacity";
  slider.oninput = () => { state.opacity = slider.value / 100; fade(); };
  const footer = make("div", { class: "fv-foot" });
  if (shown.layers.length) footer.append(make("label", { class: "fv-slider" }, "Opacity", slider));
  footer.append(make("span", { class: "fv-keys" },
    "Wheel or + − zoom · drag to move · click the picture, then 1–9 layers, [ ] opacity, 0 fit"));
  return make("div", { class: "fv-below" }, list, footer);
}

function fade() {
  for (const layer of picture()?.layers ?? []) {
    const drawn = root.querySelector(`[data-layer="${CSS.escape(layer.key)}"]`);
    drawn.toggleAttribute("hidden", !isOn(layer)); // SVG has the attribute, not the property
    drawn.style.opacity = layer.kind === "points" ? 1 : state.opacity;
    root.querySelector(`[data-toggle="${CSS.escape(layer.key)}"]`).checked = isOn(layer);
  }
  const slider = root.querySelector(".fv-opacity");
  if (slider) slider.value = String(Math.round(state.opacity * 100));
}

function move() {
  const node = root.querySelector(".fv-stage");
  if (!node) return;
  const spanX = node.clientWidth * (state.zoom - 1), spanY = node.clientHeight * (state.zoom - 1);
  state.x = Math.min(0, Math.max(-spanX, state.x));
  state.y = Math.min(0, Math.max(-spanY, state.y));
  root.querySelector(".fv-canvas").style.transform = `translate(${state.x}px, ${state.y}px) scale(${state.zoom})`;
  node.classList.toggle("is-zoomed", state.zoom > 1);
}

function zoomBy(factor, x, y) {
  const node = root.querySelector(".fv-stage");
  const before = state.zoom;
  state.zoom = factor ? Math.min(12, Math.max(1, before * factor)) : 1;
  const atX = x ?? node.clientWidth / 2, atY = y ?? node.clientHeight / 2;
  state.x = atX - ((atX - state.x) * state.zoom) / before;
  state.y = atY - ((atY - state.y) * state.zoom) / before;
  move();
}

function drag(node) {
  let last = null;
  node.addEventListener("pointerdown", (event) => {
    if (state.zoom > 1) { last = event; node.setPointerCapture(event.pointerId); }
  });
  node.addEventListener("pointermove", (event) => {
    if (!last) return;
    state.x += event.clientX - last.clientX;
    state.y += event.clientY - last.clientY;
    last = event;
    move();
  });
  for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { last = null; });
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const layers = picture().layers, step = 60;
  const arrows = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  const layer = /^[1-9]$/.test(event.key) ? layers[Number(event.key) - 1] : null;
  if (layer) { state.on[layer.key] = !isOn(layer); fade(); }
  else if (event.key === "[" || event.key === "]") {
    const change = event.key === "]" ? 0.1 : -0.1;
    state.opacity = Math.min(1, Math.max(0, Math.round((state.opacity + change) * 100) / 100));
    fade();
  }
  else if (event.key === "+" || event.key === "=") zoomBy(1.4);
  else if (event.key === "-") zoomBy(1 / 1.4);
  else if (event.key === "0") zoomBy(0);
  else if (state.zoom > 1 && arrows[event.key]) {
    state.x += arrows[event.key][0];
    state.y += arrows[event.key][1];
    move();
  }
  else return;
  event.preventDefault();
}

function choose(handle) {
  if (state.current === handle) return;
  Object.assign(state, { current: handle, zoom: 1, x: 0, y: 0 });
}

function take() {
  const before = state.scene.current;
  state.scene = props.value ? JSON.parse(props.value) : { pictures: [], current: null };
  if (state.scene.current !== before || !picture()) choose(state.scene.current);
  const focused = root.querySelector(".fv-stage") === document.activeElement;
  draw();
  if (focused) root.querySelector(".fv-stage")?.focus({ preventScroll: true });
}

// A citation shows the layers of its evidence; `only` hides the others.
document.addEventListener("fovea:layers", ({ detail }) => {
  const owner = state.scene.pictures.find((p) => p.layers.some((l) => detail.evidence.includes(l.evidence)));
  if (!owner) return;
  const asked = owner.layers.filter((l) => detail.evidence.includes(l.evidence));
  const outlines = asked.filter((l) => l.kind === "mask" || l.kind === "points");
  for (const layer of owner.layers) {
    // A score map covers the photograph: it is switched on only where there is no outline.
    if ((outlines.length ? outlines : asked).includes(layer)) state.on[layer.key] = true;
    else if (detail.only) state.on[layer.key] = false;
  }
  choose(owner.handle);
  draw();
});

watch("value", take);
take();
