//! The pages.

use std::time::Duration;

use crate::eval::escape;

use super::{ReportError, Run, curves};

const STYLE: &str = "\
body { font: 16px/1.5 sans-serif; color: #222; background: #fff; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem }
dt { color: #555 }
dd { margin: 0 }
pre { background: #f6f6f6; padding: 0.6rem; overflow-x: auto; white-space: pre-wrap }
svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: 14px }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #ddd; text-align: left }
";

/// The page of one run. Equal runs give equal pages.
///
/// # Errors
/// A curve cannot be drawn.
pub fn html(run: &Run) -> Result<String, ReportError> {
    let mut body = section("Run", &facts(&summary(run)));
    if !run.machine.is_empty() {
        body += &section("Machine", &facts(&run.machine));
    }
    if let Some(svg) = curves::of_run(run)? {
        body += &section("Curves", &format!("<figure>\n{svg}</figure>\n"));
    }
    body += &evaluations(run);
    body += &samples(run);
    body += &section("Recipe", &format!("<pre>{}</pre>\n", escape(&run.recipe)));
    Ok(page(&format!("llamahome train: {}", run.name()), &body))
}

/// Several runs beside each other.
///
/// # Errors
/// A curve cannot be drawn.
pub fn compare(runs: &[Run]) -> Result<String, ReportError> {
    let mut body = String::new();
    let columns: Vec<Vec<(String, String)>> = runs.iter().map(summary).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in columns.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut headings = vec![String::new()];
    headings.extend(runs.iter().map(|run| run.name().to_owned()));
    let lines = names.into_iter().map(|name| {
        let value = |column: &Vec<(String, String)>| {
            let found = column.iter().find(|(known, _)| known == name);
            found.map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
        };
        std::iter::once(name.clone())
            .chain(columns.iter().map(value))
            .collect()
    });
    body += &section("Runs", &table(&headings, lines));
    if let Some(svg) = curves::of_runs(runs)? {
        body += &section("Curves", &format!("<figure>\n{svg}</figure>\n"));
    }
    Ok(page("llamahome train: comparison of runs", &body))
}

fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

fn section(title: &str, content: &str) -> String {
    format!("<h2>{title}</h2>\n{content}")
}

fn facts(facts: &[(String, String)]) -> String {
    let line = |(name, value): &(String, String)| {
        format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value))
    };
    format!(
        "<dl>\n{}</dl>\n",
        facts.iter().map(line).collect::<String>()
    )
}

fn table(headings: &[String], lines: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String], tag: &str| {
        let cells = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let body: String = lines.map(|cells| line(&cells, "td")).collect();
    format!(
        "<table>\n<thead>\n{}</thead>\n<tbody>\n{body}</tbody>\n</table>\n",
        line(headings, "th")
    )
}

/// What there is to say of a run in figures; what is not known is left out.
fn summary(run: &Run) -> Vec<(String, String)> {
    let state = &run.listed.state;
    let last = run.log.steps().last();
    let of = |total: Option<u64>| total.map_or_else(String::new, |steps| format!(" of {steps}"));
    let seconds = |seconds: f64| {
        let length = Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
        humantime::format_duration(length).to_string()
    };
    let number = |value: f64| format!("{value:.4}");
    let peak = run.log.steps().map(|step| step.memory_bytes).max();
    let all = [
        ("stage", Some(state.stage.to_string())),
        ("status", Some(run.listed.status())),
        ("reason", state.reason.clone()),
        ("steps", Some(format!("{}{}", state.step, of(state.steps)))),
        ("tokens", last.map(|step| step.tokens.to_string())),
        ("training loss", last.map(|step| number(step.loss))),
        (
            "best loss on the data held back",
            run.least(|at| at.loss).map(number),
        ),
        (
            "best bits per byte",
            run.least(|at| at.bits_per_byte).map(number),
        ),
        (
            "best reward",
            run.least(|at| at.reward.map(|reward| -reward))
                .map(|reward| number(-reward)),
        ),
        (
            "tokens a second",
            last.map(|step| format!("{:.0}", step.tokens_per_s)),
        ),
        (
            "peak memory",
            peak.map(|bytes| format!("{:.1} MiB", bytes as f64 / 1048576.0)),
        ),
        ("time of steps", Some(seconds(state.active_s))),
        (
            "time from start to end",
            Some(seconds(state.updated.saturating_sub(state.created) as f64)),
        ),
        (
            "energy",
            run.energy()
                .map(|joules| format!("{:.1} Wh", joules / 3600.0)),
        ),
        ("model", state.exported.clone()),
        (
            "lines of the log that could not be read",
            Some(run.log.broken)
                .filter(|broken| *broken > 0)
                .map(|broken| broken.to_string()),
        ),
    ];
    let known = all
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

fn evaluations(run: &Run) -> String {
    let mut tasks: Vec<&String> = run
        .log
        .evaluations()
        .flat_map(|at| at.tasks.keys())
        .collect();
    tasks.sort();
    tasks.dedup();
    let lines: Vec<Vec<String>> = run
        .log
        .evaluations()
        .map(|at| {
            let shown = |value: Option<f64>| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
            };
            let mut line = vec![
                at.step.to_string(),
                shown(at.loss),
                shown(at.bits_per_byte),
                shown(at.reward),
                shown(at.right),
            ];
            line.extend(tasks.iter().map(|task| shown(at.tasks.get(*task).copied())));
            line.push(if at.best {
                "best so far".to_owned()
            } else {
                String::new()
            });
            line
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut headings = ["step", "loss", "bits per byte", "reward", "right"]
        .map(str::to_owned)
        .to_vec();
    headings.extend(tasks.into_iter().cloned());
    headings.push(String::new());
    section("Evaluations", &table(&headings, lines.into_iter()))
}

fn samples(run: &Run) -> String {
    let samples = run.samples();
    let Some(first) = samples.first() else {
        return String::new();
    };
    let shown = samples.iter().map(|sampled| {
        format!(
            "<pre><b>{}</b>{}</pre>\n",
            escape(&sampled.prompt),
            escape(&sampled.text)
        )
    });
    section(
        &format!("Samples after step {}", first.step),
        &shown.collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::train::recipe;
    use crate::train::record::{Entry, Evaluated, JsonLines, Sampled, Step};
    use crate::train::runs::RunFolder;

    fn run(home: &Path, logged: bool) -> Run {
        let text = "name = \"x\"\nstage = \"sft\"\n[model]\nbase = \"<m>\"\n[data]\npath = \"d\"\n";
        let recipe = recipe::parse(Path::new("r.toml"), text, &[])
            .unwrap()
            .recipe;
        let folder = RunFolder::create(home, &recipe, 100).unwrap();
        if logged {
            let (mut log, _) = JsonLines::open(&folder.log(), None).unwrap();
            for step in 1..=3 {
                log.write(&Entry::Step(Step {
                    step,
                    loss: 3.0 / step as f64,
                    lr: 1e-4,
                    memory_bytes: 1 << 20,
                    energy_j: Some(1200.0),
                    ..Step::default()
                }))
                .unwrap();
            }
            let mut evaluated = Evaluated {
                step: 3,
                loss: Some(1.25),
                best: true,
                ..Evaluated::default()
            };
            evaluated.tasks.insert("copying".to_owned(), 0.5);
            log.write(&Entry::Evaluation(evaluated)).unwrap();
            let sampled = Sampled {
                step: 3,
                prompt: "a <b>".to_owned(),
                text: " & c".to_owned(),
                ..Sampled::default()
            };
            log.write(&Entry::Sample(sampled)).unwrap();
        }
        Run::read(&folder, vec![("processor".to_owned(), "A & B".to_owned())]).unwrap()
    }

    #[test]
    fn a_page_holds_everything_and_loads_nothing() {
        let home = tempfile::tempdir().unwrap();
        let run = run(home.path(), true);
        let page = html(&run).unwrap();
        assert_eq!(page, html(&run).unwrap());
        for text in [
            "<h1>llamahome train: x-1</h1>",
            "<dt>processor</dt><dd>A &amp; B</dd>",
            "<dt>best loss on the data held back</dt><dd>1.2500</dd>",
            "<dt>energy</dt><dd>1.0 Wh</dd>",
            "<dt>peak memory</dt><dd>1.0 MiB</dd>",
            "<th>copying</th>",
            "<pre><b>a &lt;b&gt;</b> &amp; c</pre>",
            "base = &quot;&lt;m&gt;&quot;",
            "<svg ",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("<script"));
    }

    #[test]
    fn a_run_without_a_log_has_a_page() {
        let home = tempfile::tempdir().unwrap();
        let page = html(&run(home.path(), false)).unwrap();
        assert!(page.contains("queued") && !page.contains("<svg") && !page.contains("Evaluations"));
    }

    #[test]
    fn runs_are_compared() {
        let home = tempfile::tempdir().unwrap();
        let runs = [run(home.path(), true), run(home.path(), false)];
        let page = compare(&runs).unwrap();
        assert!(page.contains("<th>x-1</th><th>x-2</th>"));
        assert!(page.contains("<td>best loss on the data held back</td><td>1.2500</td><td>-</td>"));
        assert_eq!(page.matches("<svg ").count(), 1);
    }
}
