// Summaries of search results are fetched, which browsers refuse to pages of the file system.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// What scrolls sideways can be reached by the keyboard.
document.addEventListener("DOMContentLoaded", () => {
  for (const area of document.querySelectorAll(".cell_output .output, .rl-scroll, div.math")) {
    if (area.scrollWidth > area.clientWidth) {
      area.tabIndex = 0;
      area.setAttribute("role", "region");
      area.setAttribute("aria-label", "Scrolls sideways");
    }
  }
});
