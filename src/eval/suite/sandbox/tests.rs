use std::env;
use std::path::Path;
use std::process;
use std::time::Duration;

use super::*;

/// What a launcher runs: see [`launcher`]. Without a job it is nothing.
#[test]
#[ignore = "the inside of the other tests' sandbox"]
fn entry() {
    if env::var_os(JOB).is_some() {
        eprintln!("{}", enter());
        process::exit(1);
    }
}

/// This test binary, told to run [`entry`] alone.
fn launcher() -> Launcher {
    let name = format!("{}::entry", module_path!());
    let (_, name) = name.split_once("::").unwrap();
    let arguments = [
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ];
    Launcher {
        program: env::current_exe().unwrap(),
        arguments: arguments.map(str::to_owned).to_vec(),
    }
}

/// A sandbox, or, on a machine without one of the guards, a look at how it refuses.
fn open(limits: Limits) -> Option<Sandbox> {
    match Sandbox::open(launcher(), limits) {
        Ok(sandbox) => Some(sandbox),
        Err(SandboxError::Unguarded { missing }) => {
            let known = ["python3", "Landlock", "seccomp", "limit"];
            assert!(
                known.iter().any(|guard| missing.contains(guard)),
                "{missing}"
            );
            eprintln!("SKIPPED: this machine has no {missing}, and the sandbox refuses as it must");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn n9_sandbox() {
    let limits = Limits {
        time: Duration::from_secs(30),
        ..Limits::default()
    };
    let Some(sandbox) = open(limits) else { return };
    assert_eq!(sandbox.limits(), limits);
    let run = |program: &str| sandbox.run(program).unwrap();

    let printed = run("print('hello', 6 * 7)");
    assert_eq!(printed.outcome, Outcome::Success);
    assert!(printed.stdout.ends_with("hello 42\n"), "{}", printed.stdout);

    let raised = run("raise ValueError('no')");
    assert_eq!(raised.outcome, Outcome::Failed { code: 1 });
    assert!(raised.stderr.ends_with("ValueError: no\n"));

    let greedy = run("x = bytearray(300 << 20)");
    assert_eq!(greedy.outcome, Outcome::OutOfMemory);
    assert_eq!(run("x = bytearray(64 << 20)").outcome, Outcome::Success);

    let endless = Sandbox {
        limits: Limits {
            time: Duration::from_millis(300),
            ..limits
        },
        ..sandbox.clone()
    };
    assert_eq!(
        endless.run("while True: pass").unwrap().outcome,
        Outcome::TimedOut
    );
}

#[test]
fn nothing_outside_is_reached() {
    let limits = Limits {
        time: Duration::from_secs(30),
        ..Limits::default()
    };
    let Some(sandbox) = open(limits) else { return };
    let secret = tempfile::NamedTempFile::new().unwrap();
    let secret = secret.path().display().to_string();
    for (program, error) in [
        (
            "import socket; socket.socket()".to_owned(),
            "PermissionError",
        ),
        (format!("open({secret:?}).read()"), "PermissionError"),
        (format!("open({secret:?}, 'w')"), "PermissionError"),
        (
            format!("import os; os.truncate({secret:?}, 0)"),
            "PermissionError",
        ),
        ("open('../status', 'w')".to_owned(), "PermissionError"),
        (
            "import os; os.listdir('/etc')".to_owned(),
            "PermissionError",
        ),
        ("import os; os.fork()".to_owned(), "PermissionError"),
        (
            "import os; os.kill(os.getppid(), 0)".to_owned(),
            "PermissionError",
        ),
        (
            "import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 40, 1 << 40))".to_owned(),
            "Error",
        ),
        (
            "open('big', 'wb').write(bytes(2 << 20))".to_owned(),
            "OSError",
        ),
        (
            "import subprocess; subprocess.run(['/bin/true'])".to_owned(),
            "Error",
        ),
        (
            "import ctypes; assert ctypes.CDLL(None).socket(2, 1, 0) >= 0".to_owned(),
            "AssertionError",
        ),
    ] {
        let ended = sandbox.run(&program).unwrap();
        assert_eq!(
            ended.outcome,
            Outcome::Failed { code: 1 },
            "{program}: {}",
            ended.stderr
        );
        let last = ended.stderr.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains(error), "{program}: {last}");
    }
    for allowed in [
        "open('mine', 'w').write('x'); assert open('mine').read() == 'x'",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "import math, json, re, collections, itertools, random, heapq",
        "import os; assert sorted(os.environ) == ['HOME', 'LANG', 'PATH', 'TMPDIR'], sorted(os.environ)",
        "import os; assert os.getcwd() == os.environ['HOME']",
    ] {
        let ended = sandbox.run(allowed).unwrap();
        assert_eq!(
            ended.outcome,
            Outcome::Success,
            "{allowed}: {}",
            ended.stderr
        );
    }
}

#[test]
fn without_python_nothing_opens() {
    let error = Sandbox::with_interpreter(
        launcher(),
        Limits::default(),
        Path::new("/nonexistent/python3"),
    )
    .unwrap_err();
    assert!(
        matches!(&error, SandboxError::Unguarded { missing } if missing.contains("/nonexistent/python3")),
        "{error}"
    );
    for (program, why) in [
        ("/bin/false", "ended with"),
        ("/bin/true", "did not say"),
        ("/bin/echo", "did not say"),
    ] {
        if Path::new(program).exists() {
            let refused =
                Sandbox::with_interpreter(launcher(), Limits::default(), Path::new(program));
            let Err(SandboxError::Unguarded { missing }) = refused else {
                panic!("{program} is no python3");
            };
            assert!(missing.contains(why), "{missing}");
        }
    }
}

#[test]
fn limits_too_low_for_python_are_said() {
    let limits = Limits {
        memory: 4 << 20,
        ..Limits::default()
    };
    match Sandbox::open(launcher(), limits) {
        Err(SandboxError::Start { .. }) => {}
        Err(SandboxError::Unguarded { missing }) => {
            eprintln!("SKIPPED: this machine has no {missing}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_launcher_that_does_not_enter_is_an_error() {
    if Interpreter::find(Path::new("python3")).is_err() {
        eprintln!("SKIPPED: this machine has no python3");
        return;
    }
    let launcher = Launcher {
        program: "/bin/true".into(),
        arguments: Vec::new(),
    };
    let error = Sandbox::open(launcher, Limits::default()).unwrap_err();
    assert!(matches!(error, SandboxError::Launcher { .. }), "{error}");
    let launcher = Launcher {
        program: "/nonexistent/launcher".into(),
        arguments: Vec::new(),
    };
    let error = Sandbox::open(launcher, Limits::default()).unwrap_err();
    assert!(matches!(error, SandboxError::Io { .. }), "{error}");
}
