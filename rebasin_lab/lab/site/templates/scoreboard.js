// Filters the rows of the scoreboard by text, section, notebook and verdict.
(() => {
  const form = document.querySelector(".rl-filter");
  const bodies = [...document.querySelectorAll(".wide tbody")];
  const rows = bodies.flatMap((body) => [...body.querySelectorAll("tr[data-verdict]")]);

  function show() {
    const text = form.elements.text.value.trim().toLowerCase();
    const fields = ["section", "notebook", "verdict"];
    let shown = 0;
    for (const row of rows) {
      const fits = fields.every((name) => {
        const value = form.elements[name].value;
        return !value || row.dataset[name] === value;
      });
      row.hidden = !(fits && row.textContent.toLowerCase().includes(text));
      shown += !row.hidden;
    }
    for (const body of bodies) body.hidden = !body.querySelector("tr[data-verdict]:not([hidden])");
    form.querySelector("output").textContent = `${shown} of ${rows.length} claims`;
  }

  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
