//! Runs a load: sessions are played at their times, and what came of each request is gathered.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::client::{Ask, Client};
use super::key::{Key, split_streams};
use super::prompt::Prompts;
use super::record::{Origin, Outcome, Record};
use super::target::{Form, Said};
use super::traffic::{OpenSchedule, Traffic, replay};
use super::workload::{Session, Shape};

/// A closed stream whose request was not served waits so long, unless the server asks for another time: a server that
/// refuses at once would otherwise be asked without end.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// No stream waits longer than this, whatever the server asks for.
const LONGEST_WAIT: f64 = 10.0;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Order {
    /// How sessions come.
    pub traffic: Traffic,
    /// What they are.
    pub shape: Shape,
    /// Who sends them; at least one.
    pub keys: Vec<Key>,
    /// What requests look like.
    pub form: Form,
    /// Tokens that all first prompts begin with.
    pub shared_prefix: u32,
    /// Sessions, and turns of sessions, begin before this; none may, for a run that `sessions` or a trace ends.
    pub duration: Option<Duration>,
    /// So many sessions at most.
    pub sessions: Option<u64>,
}

/// Requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent.
    pub sent: usize,
    /// Served.
    pub served: usize,
    /// Refused.
    pub refused: usize,
    /// Failed.
    pub failed: usize,
    /// Left by the tester.
    pub aborted: usize,
    /// Tokens of answers.
    pub output_tokens: u64,
}

impl Tally {
    /// Requests on their way.
    pub fn running(&self) -> usize {
        self.sent
            .saturating_sub(self.served + self.refused + self.failed + self.aborted)
    }

    fn add(&mut self, record: &Record) {
        let count = match record.outcome {
            Outcome::Served => &mut self.served,
            Outcome::Refused => &mut self.refused,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Aborted => &mut self.aborted,
        };
        *count += 1;
        self.output_tokens += record.output_tokens();
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Every request that ended, in the order of their ends.
    pub records: Vec<Record>,
    /// Turns of sessions that were not sent: an earlier turn was not served, or the time was over.
    pub turns_not_sent: usize,
    /// Requests that were on their way when the run was stopped.
    pub unfinished: usize,
    /// Seconds in which sessions arrived.
    pub arrival_s: f64,
    /// Seconds until the last request ended.
    pub whole_s: f64,
}

/// What a session tells the run.
enum Told {
    Sent,
    Over(Box<Record>),
    NotSent(usize),
}

/// What all sessions of a run share.
struct Stage {
    client: Arc<Client>,
    form: Form,
    prompts: Prompts,
    clock: Instant,
    until: f64,
}

/// Sends `count` requests one after another that count nowhere, and tells how many of them were not served.
pub async fn warm_up(client: &Client, order: &Order, count: u64) -> usize {
    let prompts = Prompts::new(order.shape.seed, order.shared_prefix);
    let clock = Instant::now();
    let mut lost = 0;
    for at in 0..count {
        // No session of a run has such a number.
        let session = order.shape.session(u64::MAX / 2 + at, 0);
        let Some(turn) = session.turns.first() else {
            continue;
        };
        let history = [Said::User(prompts.text(session.number, 0, turn.prompt))];
        let origin = Origin {
            session: session.number,
            turn: 0,
            key: 0,
            prompt_asked: turn.prompt,
            output_asked: turn.output,
        };
        let ask = Ask {
            origin,
            intended: clock.elapsed().as_secs_f64(),
            history: &history,
            abort: None,
        };
        let (record, _) = client.ask(clock, &order.form, ask).await;
        lost += usize::from(record.outcome != Outcome::Served);
    }
    lost
}

/// Runs a load to its end, or until `stop`. `seen` is told of every change.
pub async fn drive(
    client: Arc<Client>,
    order: &Order,
    seen: &mut dyn FnMut(&Tally),
    stop: impl Future<Output = ()>,
) -> Run {
    let clock = Instant::now();
    let stage = Arc::new(Stage {
        client,
        form: order.form.clone(),
        prompts: Prompts::new(order.shape.seed, order.shared_prefix),
        clock,
        until: order
            .duration
            .map_or(f64::INFINITY, |time| time.as_secs_f64()),
    });
    let (tell, told) = unbounded_channel();
    let (shape, keys) = (order.shape.clone(), &order.keys);
    let gathering = Gathering {
        told,
        run: Run::default(),
        tally: Tally::default(),
        seen,
    };
    match &order.traffic {
        Traffic::Closed { streams } => {
            let tasks = streams_of(&stage, order, *streams, &tell);
            drop(tell);
            gathering.until_over(stage, tasks, stop).await
        }
        Traffic::Open { process, rate } => {
            let schedule = OpenSchedule::new(*process, *rate, keys, shape);
            gathering.by_clock(stage, schedule, order, tell, stop).await
        }
        Traffic::Replay { rows, speed } => {
            let schedule = replay(rows.clone(), *speed, keys, shape);
            gathering.by_clock(stage, schedule, order, tell, stop).await
        }
    }
}

struct Gathering<'a> {
    told: UnboundedReceiver<Told>,
    run: Run,
    tally: Tally,
    seen: &'a mut dyn FnMut(&Tally),
}

impl Gathering<'_> {
    /// Starts sessions at their times, then waits for the last.
    async fn by_clock(
        mut self,
        stage: Arc<Stage>,
        schedule: impl Iterator<Item = (Duration, Session)>,
        order: &Order,
        tell: UnboundedSender<Told>,
        stop: impl Future<Output = ()>,
    ) -> Run {
        let mut stop = pin!(stop);
        let mut tasks = JoinSet::new();
        let most = order
            .sessions
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        for (at, session) in schedule.take(most) {
            let at_s = at.as_secs_f64();
            if at_s >= stage.until {
                break;
            }
            let Some(due) = stage.clock.checked_add(at) else {
                break;
            };
            loop {
                tokio::select! {
                    biased;
                    () = sleep_until(due.into()) => break,
                    () = &mut stop => return self.cut(&stage, tasks),
                    Some(told) = self.told.recv() => self.take(told),
                }
            }
            let (stage, tell) = (stage.clone(), tell.clone());
            tasks.spawn(async move {
                play(&stage, session, at_s, &tell).await;
            });
        }
        drop(tell);
        self.until_over(stage, tasks, stop).await
    }

    async fn until_over(
        mut self,
        stage: Arc<Stage>,
        tasks: JoinSet<()>,
        stop: impl Future<Output = ()>,
    ) -> Run {
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return self.cut(&stage, tasks),
                told = self.told.recv() => match told {
                    Some(told) => self.take(told),
                    None => return self.end(&stage),
                },
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Sent => self.tally.sent += 1,
            Told::Over(record) => {
                self.tally.add(&record);
                self.run.records.push(*record);
            }
            Told::NotSent(turns) => self.run.turns_not_sent += turns,
        }
        (self.seen)(&self.tally);
    }

    fn cut(mut self, stage: &Stage, mut tasks: JoinSet<()>) -> Run {
        tasks.abort_all();
        while let Ok(told) = self.told.try_recv() {
            self.take(told);
        }
        let now = stage.clock.elapsed().as_secs_f64();
        let mut run = self.end(stage);
        run.arrival_s = stage.until.min(now);
        run.whole_s = now;
        run
    }

    fn end(mut self, stage: &Stage) -> Run {
        let last = |time: fn(&Record) -> f64, records: &[Record]| {
            records.iter().map(time).fold(0.0, f64::max)
        };
        let run = &mut self.run;
        run.unfinished = self.tally.running();
        run.whole_s = last(|record| record.ended, &run.records);
        run.arrival_s = match stage.until.is_finite() {
            true => stage.until.min(stage.clock.elapsed().as_secs_f64()),
            false => last(|record| record.intended, &run.records),
        };
        self.run
    }
}

/// The streams of a closed loop, each of which plays one session after another.
fn streams_of(
    stage: &Arc<Stage>,
    order: &Order,
    streams: usize,
    tell: &UnboundedSender<Told>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let next = Arc::new(AtomicU64::new(0));
    let most = order.sessions.unwrap_or(u64::MAX);
    for (key, streams) in split_streams(&order.keys, streams).into_iter().enumerate() {
        for _ in 0..streams {
            let (stage, tell, next) = (stage.clone(), tell.clone(), next.clone());
            let shape = order.shape.clone();
            tasks.spawn(async move {
                loop {
                    let now = stage.clock.elapsed().as_secs_f64();
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= most || now >= stage.until {
                        return;
                    }
                    let wait = play(&stage, shape.session(number, key), now, &tell).await;
                    tokio::time::sleep(wait).await;
                }
            });
        }
    }
    tasks
}

/// Plays the turns of a session that begins at `intended`. Returns how long its stream should wait before the next.
async fn play(
    stage: &Stage,
    session: Session,
    mut intended: f64,
    tell: &UnboundedSender<Told>,
) -> Duration {
    let mut history = Vec::new();
    let mut wait = Duration::ZERO;
    let mut sent = 0;
    for (at, turn) in session.turns.iter().enumerate() {
        if at > 0 {
            intended += turn.think.as_secs_f64();
            if intended >= stage.until {
                break;
            }
            let due = stage.clock + Duration::from_secs_f64(intended);
            sleep_until(due.into()).await;
        }
        history.push(Said::User(stage.prompts.text(
            session.number,
            at,
            turn.prompt,
        )));
        let origin = Origin {
            session: session.number,
            turn: at,
            key: session.key,
            prompt_asked: turn.prompt,
            output_asked: turn.output,
        };
        let ask = Ask {
            origin,
            intended,
            history: &history,
            abort: turn.abort,
        };
        // A run that was stopped hears no more.
        let _ = tell.send(Told::Sent);
        sent += 1;
        let (record, reply) = stage.client.ask(stage.clock, &stage.form, ask).await;
        let (outcome, retry_after) = (record.outcome, record.retry_after);
        intended = record.ended;
        let _ = tell.send(Told::Over(Box::new(record)));
        match outcome {
            Outcome::Served => history.push(Said::Assistant(reply)),
            Outcome::Aborted => break,
            Outcome::Refused | Outcome::Failed(_) => {
                let asked = retry_after.map(|seconds| seconds.min(LONGEST_WAIT));
                wait = asked.map_or(AFTER_REFUSAL, Duration::from_secs_f64);
                break;
            }
        }
    }
    if let Some(left) = session
        .turns
        .len()
        .checked_sub(sent)
        .filter(|&left| left > 0)
    {
        let _ = tell.send(Told::NotSent(left));
    }
    wait
}
