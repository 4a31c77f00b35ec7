// A panel of HTML that the server has escaped. Set directly: gradio's template engine
// would read braces in a text as code.
const show = () => { element.querySelector(".fovea-panel").innerHTML = props.value ?? ""; };
watch("value", show);
show();
