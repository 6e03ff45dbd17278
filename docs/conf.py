"""How Sphinx builds the site from the documents. `make docs` calls it."""

project = "scorm-webhooks"
html_title = "scorm-webhooks"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"

# A link may name a heading, as in settings.md#kafka.
myst_heading_anchors = 4

html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_extra_path = ["extra"]
html_copy_source = True
html_show_sourcelink = False
html_show_copyright = False
html_use_index = False
# Widths of columns would be styles within the page, which the policy of the site forbids.
table_style = ["colwidths-auto"]
