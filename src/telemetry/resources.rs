//! One sample of what the process and its machine use.

/// The target of samples: they go to `resources.*.log` and nowhere else.
pub const RESOURCES: &str = "llamahome::resources";

/// One sample; sizes in bytes, ratios from 0 to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResourceSample {
    /// The share of the CPUs this process may use that it kept busy since the sample before.
    pub cpu_ratio: f64,
    /// Memory in use: of the cgroup when it has a limit, else of the machine.
    pub memory_used: u64,
    /// Memory of the machine.
    pub memory_total: u64,
    /// The cgroup's limit of memory.
    pub cgroup_limit: Option<u64>,
    /// Memory of this process.
    pub process_rss: u64,
    /// Free space of the disk that holds the home folder.
    pub disk_free: u64,
    /// Memory of all keys and values.
    pub kv_bytes: u64,
    /// One a GPU.
    pub gpus: Vec<GpuSample>,
}

/// One sample of one GPU.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuSample {
    /// Its number, from 0.
    pub index: u32,
    /// Its product name.
    pub name: String,
    /// The share of time it was busy.
    pub busy_ratio: f64,
    /// Memory in use.
    pub memory_used: u64,
    /// Memory it has.
    pub memory_total: u64,
}

impl ResourceSample {
    /// The most memory that can be used: the cgroup's limit or the machine's memory, whichever is less.
    pub fn memory_limit(&self) -> u64 {
        self.cgroup_limit
            .map_or(self.memory_total, |limit| limit.min(self.memory_total))
    }

    /// What is left below [`Self::memory_limit`].
    pub fn memory_available(&self) -> u64 {
        self.memory_limit().saturating_sub(self.memory_used)
    }

    /// Logs the sample under the target [`RESOURCES`], then one event a GPU.
    pub fn emit(&self) {
        tracing::info!(
            target: RESOURCES,
            cpu_ratio = self.cpu_ratio,
            memory_used = self.memory_used,
            memory_total = self.memory_total,
            cgroup_limit = self.cgroup_limit,
            process_rss = self.process_rss,
            disk_free = self.disk_free,
            kv_bytes = self.kv_bytes,
            "sample"
        );
        for gpu in &self.gpus {
            tracing::info!(
                target: RESOURCES,
                gpu = gpu.index,
                name = gpu.name.as_str(),
                busy_ratio = gpu.busy_ratio,
                memory_used = gpu.memory_used,
                memory_total = gpu.memory_total,
                "gpu sample"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_counts() {
        let sample = |cgroup_limit, memory_used| ResourceSample {
            memory_total: 100,
            memory_used,
            cgroup_limit,
            ..ResourceSample::default()
        };
        assert_eq!(sample(None, 30).memory_available(), 70);
        assert_eq!(sample(Some(50), 30).memory_available(), 20);
        assert_eq!(sample(Some(u64::MAX), 30).memory_available(), 70);
        assert_eq!(sample(Some(20), 30).memory_available(), 0);
    }
}
