//! Parked parcels against a plain list, over a disk that fails when told to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bag {
    id: usize,
    bytes: usize,
}

impl Parcel for Bag {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What the test and the code under test see of the same disk.
#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, Bag>,
    /// Keys that cannot be spilled, fetched or erased.
    stuck: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct FakeDisk(Rc<RefCell<Disk>>);

impl FakeDisk {
    fn ask(&self, key: &str) -> Result<(), String> {
        let stuck = self.0.borrow().stuck.iter().any(|name| name == key);
        if stuck {
            Err("stuck".to_owned())
        } else {
            Ok(())
        }
    }
}

fn file_bytes(bag: &Bag) -> u64 {
    bag.bytes as u64 + 100
}

impl Spill<Bag> for FakeDisk {
    fn spill(&mut self, key: &str, parcel: &Bag) -> Result<u64, String> {
        self.ask(key)?;
        let mut disk = self.0.borrow_mut();
        disk.files.insert(key.to_owned(), parcel.clone());
        Ok(file_bytes(parcel))
    }

    fn fetch(&mut self, key: &str) -> Result<Bag, String> {
        self.ask(key)?;
        let file = self.0.borrow().files.get(key).cloned();
        file.ok_or_else(|| "no such file".to_owned())
    }

    fn erase(&mut self, key: &str) -> Result<(), String> {
        self.ask(key)?;
        let gone = self.0.borrow_mut().files.remove(key);
        gone.map(drop).ok_or_else(|| "no such file".to_owned())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Park(usize, usize),
    Take(usize),
    Peek(usize),
    Erase(usize),
    /// From now on these keys are stuck.
    Stick(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0usize..6;
    prop_oneof![
        6 => (key.clone(), 0usize..14).prop_map(|(key, bytes)| Step::Park(key, bytes)),
        2 => key.clone().prop_map(Step::Take),
        3 => key.clone().prop_map(Step::Peek),
        1 => key.clone().prop_map(Step::Erase),
        2 => prop::collection::vec(key, 0..3).prop_map(Step::Stick),
    ]
}

fn name(key: usize) -> String {
    format!("k{key}")
}

/// The least recently used comes first.
#[derive(Debug, Default)]
struct Model {
    line: Vec<(String, Bag, Place)>,
    /// Files, the outdated ones too.
    files: BTreeMap<String, Bag>,
    stuck: Vec<String>,
}

impl Model {
    fn find(&self, key: &str) -> Option<usize> {
        self.line.iter().position(|(at, ..)| at == key)
    }

    fn is_stuck(&self, key: &str) -> bool {
        self.stuck.iter().any(|name| name == key)
    }

    fn resident(&self) -> usize {
        let resident = self
            .line
            .iter()
            .filter(|(.., place)| *place == Place::Memory);
        resident.map(|(_, bag, _)| bag.bytes).sum()
    }

    /// Parks, and says what was spilled and which failed first.
    fn park(&mut self, key: &str, bag: Bag, budget: usize) -> (Vec<Spilled>, Option<String>) {
        self.line.retain(|(at, ..)| at != key);
        self.line.push((key.to_owned(), bag, Place::Memory));
        let (mut spilled, mut failed) = (Vec::new(), None);
        for oversized in [true, false] {
            for index in 0..self.line.len() {
                let resident = self.resident();
                let (key, bag, place) = &self.line[index];
                let chosen = *place == Place::Memory && (bag.bytes > budget) == oversized;
                if !chosen || resident <= budget {
                    continue;
                }
                if self.is_stuck(key) {
                    failed.get_or_insert(key.clone());
                    continue;
                }
                self.files.insert(key.clone(), bag.clone());
                let (key, bytes) = (key.clone(), file_bytes(bag));
                spilled.push(Spilled { key, bytes });
                self.line[index].2 = Place::Disk;
            }
        }
        (spilled, failed)
    }

    /// What reading and erasing answer: the parcel, or `Err` if the disk is in the way.
    fn read(&self, key: &str) -> Result<Option<(Bag, Place)>, ()> {
        match self.find(key).map(|index| &self.line[index]) {
            Some((_, _, Place::Disk)) if self.is_stuck(key) => Err(()),
            found => Ok(found.map(|(_, bag, place)| (bag.clone(), *place))),
        }
    }

    fn erase(&mut self, key: &str) -> Result<bool, ()> {
        if self.files.contains_key(key) && self.is_stuck(key) {
            return Err(());
        }
        self.files.remove(key);
        let before = self.line.len();
        self.line.retain(|(at, ..)| at != key);
        Ok(self.line.len() < before)
    }

    fn list(&self) -> Vec<(String, u64, Place)> {
        let bytes = |bag: &Bag, place| match place {
            Place::Memory => bag.bytes as u64,
            Place::Disk => file_bytes(bag),
        };
        let line = self.line.iter();
        line.map(|(key, bag, place)| (key.clone(), bytes(bag, *place), *place))
            .collect()
    }
}

fn plain<E>(found: Result<Option<(Arc<Bag>, Place)>, E>) -> Result<Option<(Bag, Place)>, ()> {
    found
        .map(|found| found.map(|(bag, place)| ((*bag).clone(), place)))
        .map_err(drop)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_is_lost_and_the_order_is_exact(
        budget in 0usize..24,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let disk = FakeDisk::default();
        let mut parked = Parked::new(budget, disk.clone());
        let mut model = Model::default();
        // Whether the last park said that it could not keep to the budget.
        let mut over = false;
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Park(key, bytes) => {
                    let bag = Bag { id, bytes };
                    let (spilled, failed) = model.park(&name(key), bag.clone(), budget);
                    over = failed.is_some();
                    let expected = match failed {
                        None => Ok(spilled),
                        Some(key) => Err(ParkError::Spill {
                            key,
                            reason: "stuck".to_owned(),
                            over: model.resident().saturating_sub(budget),
                            spilled,
                        }),
                    };
                    prop_assert_eq!(parked.park(&name(key), Arc::new(bag)), expected);
                }
                Step::Take(key) => {
                    let key = name(key);
                    let expected = model.read(&key).and_then(|found| {
                        model.erase(&key)?;
                        Ok(found)
                    });
                    prop_assert_eq!(plain(parked.take(&key)), expected);
                }
                Step::Peek(key) => {
                    let key = name(key);
                    let expected = model.read(&key);
                    if expected.is_ok() && let Some(index) = model.find(&key) {
                        let used = model.line.remove(index);
                        model.line.push(used);
                    }
                    prop_assert_eq!(plain(parked.peek(&key)), expected);
                }
                Step::Erase(key) => {
                    let expected = model.erase(&name(key));
                    prop_assert_eq!(parked.erase(&name(key)).map_err(drop), expected);
                }
                Step::Stick(keys) => {
                    model.stuck = keys.into_iter().map(name).collect();
                    disk.0.borrow_mut().stuck.clone_from(&model.stuck);
                }
            }
            let list = parked.list().into_iter();
            let list: Vec<_> = list.map(|entry| (entry.key, entry.bytes, entry.place)).collect();
            prop_assert_eq!(list, model.list());
            prop_assert_eq!(parked.resident_bytes(), model.resident());
            prop_assert!(over || parked.resident_bytes() <= budget);
            prop_assert_eq!(parked.spilled_bytes(), model.files.values().map(file_bytes).sum::<u64>());
            prop_assert_eq!(&disk.0.borrow().files, &model.files);
        }
    }
}

#[test]
fn errors_say_what_to_do() {
    let disk = FakeDisk::default();
    let mut parked = Parked::new(10, disk.clone());
    disk.0.borrow_mut().stuck.push("a".to_owned());
    let bag = |id, bytes| Arc::new(Bag { id, bytes });
    let text = parked.park("a", bag(0, 12)).unwrap_err().to_string();
    assert!(
        text.contains("\"a\"") && text.contains("2 bytes over"),
        "{text}"
    );
    disk.0.borrow_mut().stuck.clear();
    let spilled = parked.park("b", bag(1, 4)).unwrap();
    let first = Spilled {
        key: "a".to_owned(),
        bytes: 112,
    };
    assert_eq!(spilled, [first], "what failed is tried again first");
    disk.0.borrow_mut().stuck.push("a".to_owned());
    let text = parked.take("a").unwrap_err().to_string();
    assert!(text.contains("cannot read \"a\" back"), "{text}");
}
