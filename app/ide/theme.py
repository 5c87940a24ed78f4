"""How the page looks: a restrained theme of system fonts, and the style sheet of what Gradio has no component for."""

import gradio as gr


def page_theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        text_size=gr.themes.sizes.text_md,
        font=["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="none",
        block_label_text_weight="500",
        chatbot_text_size="*text_md",
        border_color_accent_subdued="*primary_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_border_width="1px",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
    )


CSS = """
.gradio-container { max-width: 1600px !important; padding: 12px 20px !important; }
.gradio-container > .main { padding: 0 !important; }
#top { align-items: stretch; flex-wrap: nowrap; }
#top .form { display: grid; grid-template-columns: 1fr 112px 124px; }
#top > button { align-self: center; white-space: nowrap; }
#title { flex: none; align-self: center; width: auto; min-width: 0; overflow: visible !important; }
#title h1 { font-size: 1.25rem; font-weight: 650; margin: 0; white-space: nowrap; }
#chat { height: calc(100vh - 264px) !important; min-height: 320px; }
#work:has(#notice .notice) #chat { height: calc(100vh - 316px) !important; }
#chat .icon-button-wrapper.top-panel { display: none; }
#chat .message .md > div:last-child { padding-bottom: 4px; }
#editor { height: calc(100vh - 410px); min-height: 240px; overflow: hidden !important; }
#work:has(.verdict) #editor { height: calc(100vh - 560px); }
#editor > .wrap:not(.default) { height: calc(100% - 22px); }
#editor .cm-editor { font-size: 13px; }
#with-code { border: none !important; background: none; padding: 6px 0; min-width: 0; flex: 1; }
@media (max-width: 940px) {
  #top { flex-wrap: wrap; }
  #chat { height: 55vh !important; }
  #chat .message .md > div:last-child { padding-bottom: 4px; }
#editor { height: 320px; }
}
.notice { margin: 0; padding: 8px 12px; border-radius: 4px; border-left: 3px solid #b45309;
          background: #fffbeb; color: #78350f; }
.hint { margin: 0; color: var(--body-text-color-subdued); font-size: .85rem; }
.verdict { border: 1px solid var(--block-border-color); border-radius: 4px; padding: 10px 12px;
           background: var(--block-background-fill); }
.verdict .head { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; }
.verdict .head span { font-size: .8rem; color: var(--body-text-color-subdued); }
.verdict .good { color: #0f766e; }
.verdict .bad { color: #b91c1c; }
.verdict h4 { margin: 8px 0 2px; font-size: .75rem; font-weight: 600; color: var(--body-text-color-subdued); }
.verdict pre { margin: 0; padding: 8px 10px; max-height: 220px; overflow: auto; border-radius: 4px; font-size: 12.5px;
               font-family: var(--font-mono); background: var(--background-fill-secondary); white-space: pre-wrap;
               overflow-wrap: anywhere; }
.verdict .detail { margin: 6px 0 0; overflow-wrap: anywhere; }
:root:has(.dark) { color-scheme: dark; }
.dark .verdict pre { background: var(--body-background-fill); }
.dark .notice { background: #422006; color: #fde68a; }
.dark .verdict .good { color: #5eead4; }
.dark .verdict .bad { color: #fca5a5; }
"""
