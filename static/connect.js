// Fills in a pasted key and copies blocks.  The key stays in this page: its field has no name and no form.
"use strict";
const blocks = document.querySelectorAll(".steps textarea");
const field = document.getElementById("key");
if (field) {
  const example = field.dataset.example;
  const fill = () => {
    for (const block of blocks) block.value = block.defaultValue.replaceAll(example, () => field.value.trim() || example);
  };
  field.parentElement.hidden = false;
  field.addEventListener("input", fill);
  fill();
}
for (const block of blocks) {
  const [button, said] = block.nextElementSibling.children;
  button.hidden = false;
  button.addEventListener("click", async () => {
    block.select();
    try {
      await navigator.clipboard.writeText(block.value); // there only on https and localhost
      said.textContent = "Copied";
    } catch {
      said.textContent = "Selected: press Ctrl+C";
    }
  });
}
