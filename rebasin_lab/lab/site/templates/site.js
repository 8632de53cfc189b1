// Summaries of search results are fetched, which browsers refuse to pages of the file system.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
