//! TensorBoard's event files: protobuf messages in the frames of TFRecord, each with masked CRC-32C checksums
//! ([format](https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details)).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use prost::{Message, Oneof};

use super::{Evaluated, Step};

/// `tensorflow.Event`, as far as scalars need it.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins a file in `folder`, named after `now` (seconds since 1970) and the process. A resumed run begins another
    /// one, which TensorBoard shows as the same run.
    ///
    /// # Errors
    /// The folder or file cannot be made.
    pub fn create(folder: &Path, now: f64, pid: u32) -> io::Result<EventFile> {
        fs::create_dir_all(folder)?;
        let name = format!("events.out.tfevents.{}.{pid}.llamahome", now as u64);
        let mut file = EventFile {
            file: File::options()
                .create(true)
                .append(true)
                .open(folder.join(name))?,
        };
        file.write(Event {
            wall_time: now,
            step: 0,
            what: Some(What::FileVersion("brain.Event:2".to_owned())),
        })?;
        Ok(file)
    }

    /// Writes a step.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn step(&mut self, step: &Step) -> io::Result<()> {
        let all = [
            ("train/loss", Some(step.loss)),
            ("train/lr", Some(step.lr)),
            ("train/grad_norm", Some(step.grad_norm)),
            ("train/reward", step.reward),
            ("speed/tokens_per_s", Some(step.tokens_per_s)),
            ("speed/mfu", step.mfu),
            ("memory/bytes", Some(step.memory_bytes as f64)),
        ];
        let given = all
            .into_iter()
            .filter_map(|(tag, value)| Some((tag.to_owned(), value?)));
        self.scalars(step.step, step.time, given)
    }

    /// Writes an evaluation.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn evaluation(&mut self, evaluated: &Evaluated) -> io::Result<()> {
        let all = [
            ("eval/loss", evaluated.loss),
            ("eval/bits_per_byte", evaluated.bits_per_byte),
            ("eval/reward", evaluated.reward),
            ("eval/right", evaluated.right),
        ];
        let given = all
            .into_iter()
            .filter_map(|(tag, value)| Some((tag.to_owned(), value?)));
        let tasks = evaluated
            .tasks
            .iter()
            .map(|(name, score)| (format!("tasks/{name}"), *score));
        self.scalars(evaluated.step, evaluated.time, given.chain(tasks))
    }

    fn scalars(
        &mut self,
        step: u64,
        wall_time: f64,
        values: impl Iterator<Item = (String, f64)>,
    ) -> io::Result<()> {
        let value = values.map(|(tag, value)| SummaryValue {
            tag,
            simple_value: value as f32,
        });
        let summary = Summary {
            value: value.collect(),
        };
        self.write(Event {
            wall_time,
            step: i64::try_from(step).unwrap_or(i64::MAX),
            what: Some(What::Summary(summary)),
        })
    }

    fn write(&mut self, event: Event) -> io::Result<()> {
        self.file.write_all(&frame(&event.encode_to_vec()))
    }
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut framed = Vec::with_capacity(bytes.len() + 16);
    framed.extend(length);
    framed.extend(masked(&length).to_le_bytes());
    framed.extend(bytes);
    framed.extend(masked(bytes).to_le_bytes());
    framed
}

/// The checksum, turned and offset as TFRecord does, so that it can stand in data that has a checksum itself.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The scalars of an event file as `(step, tag, value)`, up to the first frame that is cut off or damaged.
pub fn read_frames(mut bytes: &[u8]) -> Vec<(i64, String, f32)> {
    let mut found = Vec::new();
    while let Some((event, rest)) = next(bytes) {
        bytes = rest;
        if let Some(What::Summary(summary)) = event.what {
            let values = summary.value.into_iter();
            found.extend(values.map(|value| (event.step, value.tag, value.simple_value)));
        }
    }
    found
}

fn next(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (data, rest) = rest.split_at_checked(size)?;
    let (data_check, rest) = rest.split_first_chunk::<4>()?;
    let sound = masked(length) == u32::from_le_bytes(*check)
        && masked(data) == u32::from_le_bytes(*data_check);
    sound.then_some((Event::decode(data).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of "123456789" is the one that the CRC-32C's definition gives (RFC 3720).
    #[test]
    fn checksums_are_masked() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // 0xe3069283 turned right by 15 bits, written out.
        let turned = 0x2507_c60d_u32;
        assert_eq!(masked(b"123456789"), turned.wrapping_add(0xa282_ead8));
    }

    /// The first frame of any event file, byte by byte: what TensorBoard's own writer begins a file with.
    #[test]
    fn a_file_begins_with_its_version() {
        let folder = tempfile::tempdir().unwrap();
        EventFile::create(folder.path(), 1.0, 7).unwrap();
        let bytes = fs::read(folder.path().join("events.out.tfevents.1.7.llamahome")).unwrap();
        let mut data = vec![0x09];
        data.extend(1.0f64.to_le_bytes());
        data.extend([0x1a, 13]);
        data.extend(b"brain.Event:2");
        assert_eq!(bytes[..8], (data.len() as u64).to_le_bytes());
        assert_eq!(bytes[12..12 + data.len()], data);
        assert_eq!(bytes.len(), data.len() + 16);
    }

    #[test]
    fn scalars_are_read_back_up_to_the_damage() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 2.0, 7).unwrap();
        let step = Step {
            step: 10,
            loss: 2.5,
            mfu: Some(0.5),
            ..Step::default()
        };
        file.step(&step).unwrap();
        let mut evaluated = Evaluated {
            step: 10,
            loss: Some(2.0),
            ..Evaluated::default()
        };
        evaluated.tasks.insert("copying".to_owned(), 0.25);
        file.evaluation(&evaluated).unwrap();
        let path = folder.path().join("events.out.tfevents.2.7.llamahome");
        let mut bytes = fs::read(&path).unwrap();
        let found = read_frames(&bytes);
        assert_eq!(found.len(), 8);
        assert_eq!(found[0], (10, "train/loss".to_owned(), 2.5));
        assert_eq!(found[7], (10, "tasks/copying".to_owned(), 0.25));
        let last = bytes.len() - 6;
        bytes[last] ^= 1;
        assert_eq!(read_frames(&bytes).len(), 6);
        assert_eq!(read_frames(&bytes[..30]).len(), 0);
    }
}
