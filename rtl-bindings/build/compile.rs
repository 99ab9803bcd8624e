//! Verilator, then the C++ compiler, then a library kept under the hash of what went in.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::list::Model;
use crate::mutants;
use crate::shim::{self, Port};
use crate::sources::Sources;
use crate::{Result, variable};

/// Raise when libraries or shims are made in another way without a change of the arguments.
const FORMAT: u32 = 2;

/// Finished libraries kept per model; older ones are deleted.
const KEPT_PER_MODEL_MAX: usize = 6;

/// Arguments to Verilator for every model. Lint is a separate step with `-Wall`; here only errors stop.
const VERILATOR_ARGS: &[&str] = &[
    "--cc",
    "--no-timing",
    "--assert",
    "-O3",
    // What the RTL leaves undefined gets a random value where the run asks for it.
    "--x-assign",
    "unique",
    "--x-initial",
    "unique",
    "--output-split",
    "15000",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "-Wno-SYMRSVDWORD",
];

/// A finished model.
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) top: String,
    pub(crate) parameters: String,
    pub(crate) traced: bool,
    pub(crate) ports: Vec<Port>,
    /// Its place in the store.
    pub(crate) folder: PathBuf,
    /// Source files that went in.
    pub(crate) inputs: Vec<PathBuf>,
}

/// The programs, and where they work.
pub(crate) struct Tools {
    binary: PathBuf,
    root: PathBuf,
    version: String,
    defines: Vec<(String, String)>,
    manifest: PathBuf,
    rtl: PathBuf,
    out: PathBuf,
    cache: PathBuf,
    compiler: String,
    cxx: Option<PathBuf>,
}

impl Tools {
    /// Takes what the runtime crate found.
    pub(crate) fn find(manifest: &Path, rtl: &Path, out: &Path, cache: &Path) -> Result<Self> {
        let from_runtime = |what: &str| variable(&format!("DEP_TANDEM_VERILATOR_RUNTIME_{what}"));
        let defines = from_runtime("DEFINES")?
            .split_whitespace()
            .filter_map(|d| d.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let mut tools = Self {
            binary: from_runtime("BINARY")?.into(),
            root: from_runtime("ROOT")?.into(),
            version: from_runtime("VERSION")?,
            defines,
            manifest: manifest.to_owned(),
            rtl: rtl.to_owned(),
            out: out.to_owned(),
            cache: cache.to_owned(),
            compiler: String::new(),
            cxx: preferred_compiler(),
        };
        let compiler =
            tools.cc(2).try_get_compiler().map_err(|e| format!("no C++ compiler: {e}"))?;
        let version = Command::new(compiler.path()).arg("--version").output();
        let version = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        // `-march=native` makes the code this processor's.
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
        tools.compiler = format!("{:?} {} {cpu}", compiler.args(), version.unwrap_or_default());
        Ok(tools)
    }

    /// Gives the model's library, from the store when nothing changed.
    pub(crate) fn build(&self, model: &Model, sources: &Sources) -> Result<Built> {
        self.build_inner(model, sources).map_err(|e| format!("model {}: {e}", model.name))
    }

    fn build_inner(&self, model: &Model, sources: &Sources) -> Result<Built> {
        let (named, included) = sources.closure(&model.top)?;
        let mut args: Vec<String> = VERILATOR_ARGS.iter().map(|a| (*a).to_owned()).collect();
        let class = format!("V{}", model.name);
        args.extend(["--top-module".to_owned(), model.top.clone()]);
        args.extend(["--prefix".to_owned(), class.clone()]);
        args.extend(model.parameters.iter().map(|(k, v)| format!("-G{k}={v}")));
        args.extend(model.defines.iter().map(|d| format!("+define+{d}")));
        if model.traced() {
            args.extend(["--trace-fst", "--trace-structs"].map(str::to_owned));
        }
        let changed = match model.mutated() {
            true => mutants::plant(&self.manifest.join("mutants.list"), &model.top, &named)?,
            false => Vec::new(),
        };
        let key = self.key(&args, named.iter().chain(&included), &changed)?;
        let folder = self.cache.join(format!("{}-{key:016x}", model.name));
        let header = folder.join("header.h");
        if !header.is_file() {
            self.make(model, &class, &args, &named, &changed, &folder)?;
        }
        self.give(model, &folder)?;
        Ok(Built {
            name: model.name.clone(),
            top: model.top.clone(),
            parameters: model.describe(),
            traced: model.traced(),
            ports: shim::ports(&crate::read(&header)?)?,
            folder,
            inputs: named.into_iter().chain(included).collect(),
        })
    }

    fn key<'a>(
        &self,
        args: &[String],
        files: impl Iterator<Item = &'a PathBuf>,
        changed: &[(PathBuf, String)],
    ) -> Result<u64> {
        let mut hash = DefaultHasher::new();
        (FORMAT, &self.version, &self.defines, &self.compiler, args).hash(&mut hash);
        for file in files {
            file.strip_prefix(&self.rtl).unwrap_or(file).hash(&mut hash);
            crate::read(file)?.hash(&mut hash);
        }
        for (_, text) in changed {
            text.hash(&mut hash);
        }
        Ok(hash.finish())
    }

    /// Links the library into this build's folder, where it stays when the store forgets it.
    fn give(&self, model: &Model, folder: &Path) -> Result<()> {
        let name = format!("libtandem_rtl_{}.a", model.name);
        let (from, to) = (folder.join(&name), self.out.join(&name));
        let _ = fs::remove_file(&to);
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(drop))
            .map_err(|e| format!("{}: {e}", from.display()))
    }

    /// Makes the library in a private folder and moves it to `folder` when it is whole.
    fn make(
        &self,
        model: &Model,
        class: &str,
        args: &[String],
        named: &[PathBuf],
        changed: &[(PathBuf, String)],
        folder: &Path,
    ) -> Result<()> {
        let work = self.out.join(&model.name);
        remove(&work)?;
        let mutated = work.join("mutated");
        fs::create_dir_all(&mutated).map_err(|e| format!("{}: {e}", mutated.display()))?;
        let mut named = named.to_vec();
        for (path, text) in changed {
            let copy = mutated.join(path.file_name().unwrap_or_default());
            fs::write(&copy, text).map_err(|e| format!("{}: {e}", copy.display()))?;
            named.iter_mut().filter(|file| *file == path).for_each(|file| file.clone_from(&copy));
        }
        let verilated = Command::new(&self.binary)
            .env("VERILATOR_ROOT", &self.root)
            .args(args)
            .arg("-Mdir")
            .arg(&work)
            .arg(format!("-I{}", self.rtl.display()))
            .args(&named)
            .output()
            .map_err(|e| format!("cannot run {}: {e}", self.binary.display()))?;
        if !verilated.status.success() {
            let said = String::from_utf8_lossy(&verilated.stderr);
            return Err(format!("Verilator failed:\n{}", said.trim_end()));
        }
        let header = crate::read(&work.join(format!("{class}.h")))?;
        let ports = shim::ports(&header)?;
        let shim_file = work.join("tandem_shim.cpp");
        fs::write(&shim_file, shim::cpp(model, class, &ports)).map_err(|e| e.to_string())?;
        let library = self.compile(model, &work)?;

        let staging = self.cache.join(format!(".{}-{}", model.name, std::process::id()));
        remove(&staging)?;
        fs::create_dir_all(&staging).map_err(|e| format!("{}: {e}", staging.display()))?;
        let name = library.file_name().ok_or("library without name")?;
        fs::copy(&library, staging.join(name))
            .map_err(|e| format!("{}: {e}", library.display()))?;
        fs::write(staging.join("header.h"), header).map_err(|e| e.to_string())?;
        if let Err(error) = fs::rename(&staging, folder) {
            // Another build of the same may have been quicker; its result is as good.
            remove(&staging)?;
            if !folder.join("header.h").is_file() {
                return Err(format!("{}: {error}", folder.display()));
            }
        }
        remove(&work)
    }

    /// Compiles what runs once with little optimisation and the rest with much.
    fn compile(&self, model: &Model, work: &Path) -> Result<PathBuf> {
        let (mut slow, mut fast) = (Vec::new(), Vec::new());
        for entry in work.read_dir().map_err(|e| e.to_string())? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.extension().is_some_and(|e| e == "cpp") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let once = name.contains("__Slow") || name.contains("__Syms");
                if once { &mut slow } else { &mut fast }.push(path);
            }
        }
        slow.sort();
        fast.sort();
        let mut library = self.cc(2);
        library.out_dir(work);
        for (files, level) in [(slow, 0), (fast, 2)] {
            let mut build = self.cc(level);
            let objects =
                build.out_dir(work).include(work).files(files).try_compile_intermediates();
            library.objects(objects.map_err(|e| e.to_string())?);
        }
        let name = format!("tandem_rtl_{}", model.name);
        library.try_compile(&name).map_err(|e| e.to_string())?;
        Ok(work.join(format!("lib{name}.a")))
    }

    fn cc(&self, level: u32) -> cc::Build {
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++20")
            .opt_level(level)
            .debug(false)
            .warnings(false)
            .cargo_metadata(false)
            .out_dir(&self.out)
            .flag_if_supported("-march=native")
            .include(self.root.join("include"))
            .include(self.root.join("include/vltstd"));
        if let Some(compiler) = &self.cxx {
            build.compiler(compiler);
        }
        for (name, value) in &self.defines {
            build.define(name, value.as_str());
        }
        build
    }
}

/// Clang's code for verilated models runs up to 1.7 times as fast as GCC 12's; `CXX` overrules.
fn preferred_compiler() -> Option<PathBuf> {
    if env::var_os("CXX").is_some() {
        return None;
    }
    let path = env::var_os("PATH")?;
    ["clang++", "clang++-19"]
        .into_iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

/// Deletes old entries of the models that were just built. Failing to is harmless.
pub(crate) fn prune(cache: &Path, built: &[Built]) {
    let Ok(entries) = cache.read_dir() else { return };
    let entries: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    for model in built {
        let mut mine: Vec<(SystemTime, &PathBuf)> = entries
            .iter()
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.strip_prefix(&model.name)
                    .and_then(|rest| rest.strip_prefix('-'))
                    .is_some_and(|key| key.len() == 16)
            })
            .filter(|path| **path != model.folder)
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .collect();
        mine.sort();
        let surplus = (mine.len() + 1).saturating_sub(KEPT_PER_MODEL_MAX);
        for (_, path) in mine.into_iter().take(surplus) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}
