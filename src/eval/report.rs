//! One HTML page with all results: what made them, plots and table, in one file without scripts.

use super::figures::{Figure, figures};
use super::gate::GATE;
use super::markup::escape;
use super::plot::PlotError;
use super::results::Results;
use super::table::{Table, percent};

const STYLE: &str = "\
body { font: 16px/1.5 sans-serif; color: #222; background: #fff; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem }
dt { color: #555 }
dd { margin: 0 }
code { overflow-wrap: anywhere }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top }
svg { max-width: 100%; height: auto }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 14px }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #ddd; white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums }
";

/// The page. Equal results give equal pages: it says nothing of the time or the place it was made.
///
/// # Errors
/// A plot could not be drawn.
pub fn html(results: &Results) -> Result<String, PlotError> {
    let figures = figures(&results.rows)?;
    let title = format!("llamahome eval: {}", escape(&results.model));
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n{}{}{}</body>\n</html>\n",
        facts(results),
        plots(&figures),
        table(&Table::of(&results.rows)),
    ))
}

fn facts(results: &Results) -> String {
    let mut list = String::from("<dl>\n");
    for (term, description) in [
        (
            "command",
            format!("<code>{}</code>", escape(&results.command)),
        ),
        ("model", escape(&results.model)),
        ("samples of a cell", results.samples.to_string()),
        ("seed", results.seed.to_string()),
        ("version", escape(&results.version)),
    ] {
        list += &format!("<dt>{term}</dt><dd>{description}</dd>\n");
    }
    list += "</dl>\n";
    list + &format!(
        "<p>Intervals are of 95 %; those of accuracies are Wilson's. Accuracy is shown where full attention reaches {}, \
         elsewhere the negative log-likelihood of the answer (lower is better). Values show when a point is pointed at.\
         </p>\n",
        percent(GATE)
    )
}

fn plots(figures: &[Figure]) -> String {
    let mut sections = String::new();
    let mut task = None;
    for figure in figures {
        if task != Some(figure.task) {
            task = Some(figure.task);
            sections += &format!("<h2>{}</h2>\n", figure.task);
        }
        let name = escape(&figure.name);
        sections += &format!("<figure id=\"{name}\">\n{}</figure>\n", figure.svg);
    }
    sections
}

fn table(table: &Table) -> String {
    let line = |cells: &[String], tag: &str| {
        let mut line = String::from("<tr>");
        for (at, cell) in cells.iter().enumerate() {
            let class = if table.is_number(at) {
                " class=\"n\""
            } else {
                ""
            };
            line += &format!("<{tag}{class}>{}</{tag}>", escape(cell));
        }
        line + "</tr>\n"
    };
    let headings: Vec<String> = table
        .headings
        .iter()
        .map(|&heading| heading.to_owned())
        .collect();
    let lines: String = table.lines.iter().map(|cells| line(cells, "td")).collect();
    format!(
        "<h2>All results</h2>\n<div class=\"wide\">\n<table>\n<thead>\n{}</thead>\n<tbody>\n{lines}</tbody>\n</table>\n</div>\n",
        line(&headings, "th")
    )
}

#[cfg(test)]
mod tests {
    use super::super::markup::testing::check_tags;
    use super::super::results::testing::results;
    use super::*;

    #[test]
    fn the_page_holds_everything() {
        let results = results();
        let page = html(&results).unwrap();
        check_tags(&page);
        assert_eq!(page, html(&results).unwrap());
        assert_eq!(page.matches("<svg ").count(), 8);
        assert_eq!(page.matches("<tr>").count(), 1 + results.rows.len());
        assert_eq!(page.matches("<h2>passkey</h2>").count(), 1);
        for text in [
            "<h1>llamahome eval: tiny</h1>",
            "--policy &quot;h2o&quot; &lt;a&amp;b&gt;</code>",
            "<dt>seed</dt><dd>7</dd>",
            "<th>policy</th><th class=\"n\">budget</th>",
            "<td>h2o</td><td class=\"n\">20 %</td>",
            "<figure id=\"passkey-h2o-20-accuracy-depths\">",
            "full attention reaches 60 %",
        ] {
            assert!(page.contains(text), "{text}");
        }
        // Nothing is loaded from elsewhere.
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("<script"));
        assert!(!page.contains("<a&b>"));
    }

    #[test]
    fn names_from_outside_are_text() {
        let mut results = results();
        results.model = "<script>x</script>".to_owned();
        for row in &mut results.rows {
            row.policy += "<b>";
        }
        let page = html(&results).unwrap();
        check_tags(&page);
        assert!(!page.contains("<script") && !page.contains("<b>"));
    }
}
