//! The import graph of the library, computed from its sources.
//!
//! A node is a file. An arrow goes from the file that names an item to the file that defines it:
//! re-exports are followed to their end. Test code is left out, as it may look everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree};

/// A path of modules from the crate's root, or of modules and an item.
pub type Names = Vec<String>;

/// A module, wherever it is written down.
#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    /// What its `use` items bring into scope: the name there, and where it comes from.
    imports: Vec<(String, Names)>,
    /// Paths that are written out in its code, as they stand there.
    paths: BTreeSet<Names>,
}

/// The modules of a crate by their paths.
#[derive(Debug, Default)]
pub struct Graph {
    modules: BTreeMap<Names, Module>,
}

/// Files, and the files that each imports from.
pub type Arrows = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

impl Graph {
    /// Reads the crate whose root is `root`.
    pub fn read(root: &Path) -> Self {
        let mut graph = Self::default();
        graph.file(root, Names::new(), root.parent().expect("a folder"));
        graph
    }

    /// Reads a file as the module `names`, whose child modules lie in `folder`.
    fn file(&mut self, path: &Path, names: Names, folder: &Path) {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self.module(path, names, folder, &parsed.items);
    }

    fn module(&mut self, path: &Path, names: Names, folder: &Path, items: &[Item]) {
        let mut module = Module {
            file: path.to_owned(),
            ..Module::default()
        };
        let mut children = Vec::new();
        for item in items {
            match item {
                Item::Mod(child) if !is_for_tests(&child.attrs) => children.push(child),
                Item::Mod(_) => {}
                item => module.visit_item(item),
            }
        }
        self.modules.insert(names.clone(), module);
        for child in children {
            let mut inner = names.clone();
            inner.push(child.ident.to_string());
            let below = folder.join(child.ident.to_string());
            match &child.content {
                Some((_, items)) => self.module(path, inner, &below, items),
                None => {
                    let file = module_file(folder, &child.ident.to_string(), &child.attrs);
                    let below = match file.ends_with("mod.rs") {
                        true => file.parent().expect("a folder").to_owned(),
                        false => below,
                    };
                    self.file(&file, inner, &below);
                }
            }
        }
    }

    /// Where each file imports from.
    pub fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (names, module) in &self.modules {
            let to = arrows.entry(module.file.clone()).or_default();
            for (name, from) in &module.imports {
                // What a module only hands on from its own children is no import of its own.
                let own = self.absolute(names, from);
                let hands_on = own.as_ref().is_some_and(|own| own.starts_with(names));
                let used = module.paths.iter().any(|path| path[0] == *name);
                if !hands_on || used {
                    to.extend(own.and_then(|own| self.defined(&own, 0)));
                }
            }
            // A single name is a local one, or was imported.
            for path in module.paths.iter().filter(|path| path.len() > 1) {
                let path = self.through_imports(module, path);
                let absolute = self.absolute(names, &path);
                to.extend(absolute.and_then(|path| self.defined(&path, 0)));
            }
            to.remove(&module.file);
        }
        arrows
    }

    /// Paths that lead out of the crate, by file.
    pub fn external(&self) -> BTreeMap<&Path, BTreeSet<Names>> {
        let mut external: BTreeMap<&Path, BTreeSet<Names>> = BTreeMap::new();
        for (names, module) in &self.modules {
            let imports = module.imports.iter().map(|(_, from)| from);
            let out = external.entry(&module.file).or_default();
            for path in imports.chain(&module.paths) {
                let path = self.through_imports(module, path);
                if self.absolute(names, &path).is_none() {
                    out.insert(path);
                }
            }
        }
        external
    }

    /// A path whose first name was imported, with that name written out.
    fn through_imports(&self, module: &Module, path: &Names) -> Names {
        let import = module.imports.iter().find(|(name, _)| *name == path[0]);
        match import {
            Some((_, from)) if path.len() > 1 && from != path => {
                from.iter().chain(&path[1..]).cloned().collect()
            }
            _ => path.clone(),
        }
    }

    /// The path from the crate's root, if it leads into the crate.
    fn absolute(&self, module: &Names, path: &Names) -> Option<Names> {
        let mut base = module.clone();
        let mut rest = path.as_slice();
        match rest.first().map(String::as_str) {
            Some("crate") => {
                base.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            Some(name) => {
                base.push(name.to_owned());
                if !self.modules.contains_key(&base) {
                    return None;
                }
                rest = &rest[1..];
            }
            None => return None,
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The file that defines what stands at a path from the crate's root.
    fn defined(&self, path: &Names, depth: usize) -> Option<PathBuf> {
        assert!(depth < 16, "{path:?} is handed on in a circle");
        let known = (0..=path.len()).rev();
        let length = known
            .into_iter()
            .find(|length| self.modules.contains_key(&path[..*length]))?;
        let (names, rest) = path.split_at(length);
        let module = &self.modules[names];
        let handed_on = rest.first().and_then(|name| {
            let import = module.imports.iter().find(|(as_name, _)| as_name == name)?;
            let mut from = self.absolute(&names.to_vec(), &import.1)?;
            from.extend(rest[1..].iter().cloned());
            (from != *path).then_some(from)
        });
        match handed_on {
            Some(from) => self.defined(&from, depth + 1),
            None => Some(module.file.clone()),
        }
    }
}

impl Module {
    fn import(&mut self, mut from: Names, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                from.push(path.ident.to_string());
                self.import(from, &path.tree);
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                if name == "self" {
                    let as_name = from.last().cloned().unwrap_or_default();
                    self.imports.push((as_name, from));
                } else {
                    from.push(name.clone());
                    self.imports.push((name, from));
                }
            }
            UseTree::Rename(rename) => {
                from.push(rename.ident.to_string());
                self.imports.push((rename.rename.to_string(), from));
            }
            UseTree::Glob(_) => self.imports.push(("*".to_owned(), from)),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(from.clone(), tree);
                }
            }
        }
    }

    /// Paths among the tokens of a macro.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut path = Names::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.take(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                proc_macro2::TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                proc_macro2::TokenTree::Group(group) => {
                    self.take(&mut path);
                    self.tokens(group.stream());
                }
                _ => self.take(&mut path),
            }
        }
        self.take(&mut path);
    }

    fn take(&mut self, path: &mut Names) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

impl<'a> Visit<'a> for Module {
    fn visit_item(&mut self, item: &'a Item) {
        if !attributes(item).is_some_and(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.import(Names::new(), &item.tree);
    }

    /// `pub(crate)` names the crate, and imports nothing.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Names = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.paths.insert(names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_stmt(&mut self, statement: &'a syn::Stmt) {
        let attributes = match statement {
            syn::Stmt::Local(local) => &local.attrs,
            syn::Stmt::Macro(call) => &call.attrs,
            syn::Stmt::Expr(syn::Expr::Call(call), _) => &call.attrs,
            syn::Stmt::Expr(syn::Expr::MethodCall(call), _) => &call.attrs,
            syn::Stmt::Expr(syn::Expr::If(choice), _) => &choice.attrs,
            _ => return visit::visit_stmt(self, statement),
        };
        if !is_for_tests(attributes) {
            visit::visit_stmt(self, statement);
        }
    }
}

fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => return None,
    })
}

/// Whether an item is there only for tests, fuzzers or benchmarks.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .any(|attribute| {
            let cfg = attribute.parse_args::<proc_macro2::TokenStream>();
            let cfg = cfg.expect("a condition").to_string();
            ["test", "fuzzing", "\"bench\"", "\"internals\""]
                .iter()
                .any(|word| cfg.contains(word))
                && !cfg.contains("not")
        })
}

fn module_file(folder: &Path, name: &str, attributes: &[Attribute]) -> PathBuf {
    let elsewhere = attributes.iter().find_map(|attribute| {
        let value = attribute.meta.require_name_value().ok()?;
        let syn::Expr::Lit(literal) = &value.value else {
            return None;
        };
        match (&literal.lit, value.path.is_ident("path")) {
            (syn::Lit::Str(path), true) => Some(path.value()),
            _ => None,
        }
    });
    if let Some(path) = elsewhere {
        let path = folder.join(path);
        return path.canonicalize().expect("the file that #[path] names");
    }
    let beside = folder.join(format!("{name}.rs"));
    match beside.is_file() {
        true => beside,
        false => folder.join(name).join("mod.rs"),
    }
}

/// Sets of files that import from each other, directly or through others.
pub fn circles(arrows: &Arrows) -> Vec<BTreeSet<PathBuf>> {
    let reached = |from: &PathBuf| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for to in arrows.get(file).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = arrows.keys().map(|file| (file, reached(file))).collect();
    let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (file, to) in &reached {
        if to.contains(*file) && !circles.iter().any(|circle| circle.contains(*file)) {
            let back = |other: &&PathBuf| reached.get(other).is_some_and(|to| to.contains(*file));
            circles.push(to.iter().filter(back).cloned().collect());
        }
    }
    circles
}
