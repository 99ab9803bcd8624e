//! From a verilated header to the C functions and the Rust table that give access to its ports.

use std::fmt::Write;

use crate::Result;
use crate::compile::Built;
use crate::list::Model;

/// A port, as declared in the header.
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) input: bool,
    /// Width in bits.
    pub(crate) bits: u32,
    /// Size of its storage: 1, 2, 4, 8, or a multiple of 4.
    pub(crate) bytes: u32,
}

/// Reads the `VL_IN…`/`VL_OUT…` lines of a header.
pub(crate) fn ports(header: &str) -> Result<Vec<Port>> {
    let mut ports = Vec::new();
    for line in header.lines().map(str::trim) {
        let Some((kind, rest)) = line.strip_prefix("VL_").and_then(|l| l.split_once("(&")) else {
            continue;
        };
        let (input, size) = match (kind.strip_prefix("IN"), kind.strip_prefix("OUT")) {
            (Some(size), _) if !kind.starts_with("INOUT") => (true, size),
            (_, Some(size)) => (false, size),
            _ => return Err(format!("a port of a kind that is not handled: {line}")),
        };
        let fields: Vec<&str> = rest.split_once(')').map_or(rest, |(f, _)| f).split(',').collect();
        let number = |index: usize| -> Result<u32> {
            let field = fields.get(index).map(|f| f.trim());
            field.and_then(|f| f.parse().ok()).ok_or_else(|| format!("cannot read port: {line}"))
        };
        let bytes = match size {
            "8" => 1,
            "16" => 2,
            "" => 4,
            "64" => 8,
            "W" => 4 * number(3)?,
            _ => return Err(format!("a port of a size that is not handled: {line}")),
        };
        let bits = number(1)?.abs_diff(number(2)?) + 1;
        ports.push(Port { name: fields[0].trim().to_owned(), input, bits, bytes });
    }
    if ports.is_empty() {
        return Err("the verilated header declares no port".to_owned());
    }
    Ok(ports)
}

/// The C++ file that exports a model.
pub(crate) fn cpp(model: &Model, class: &str, ports: &[Port]) -> String {
    let name = &model.name;
    let mut text = format!(
        r#"#include "{class}.h"
#include <exception>
{fst}
extern "C" {{
unsigned tandem_vl_failures();
void tandem_vl_note_exception(const char*);
void* tandem_rtl_{name}_new(void* context) {{
    try {{
        return new {class}{{static_cast<VerilatedContext*>(context), "{top}"}};
    }} catch (const std::exception& e) {{
        tandem_vl_note_exception(e.what());
        return nullptr;
    }}
}}
void tandem_rtl_{name}_delete(void* model) {{
    delete static_cast<{class}*>(model);
}}
unsigned tandem_rtl_{name}_eval(void* model) {{
    try {{
        static_cast<{class}*>(model)->eval();
    }} catch (const std::exception& e) {{
        tandem_vl_note_exception(e.what());
    }}
    return tandem_vl_failures();
}}
void tandem_rtl_{name}_ports(void* model, void** out) {{
    auto* const m = static_cast<{class}*>(model);
"#,
        fst = if model.traced() { "#include \"verilated_fst_c.h\"" } else { "" },
        top = model.top,
    );
    for port in ports {
        let _ = writeln!(text, "    *out++ = &m->{};", port.name);
    }
    text.push_str("}\n");
    if model.traced() {
        let _ = writeln!(
            text,
            "void tandem_rtl_{name}_attach(void* model, void* fst) {{\n    \
             static_cast<{class}*>(model)->trace(static_cast<VerilatedFstC*>(fst), 99);\n}}"
        );
    }
    text.push_str("}  // extern \"C\"\n");
    text
}

/// The Rust source of `mod models`.
pub(crate) fn rust_table(built: &[Built]) -> String {
    let mut text = String::from("// Written by build/shim.rs.\n");
    let mut names = Vec::new();
    for model in built {
        let (name, upper) = (&model.name, model.name.to_uppercase());
        let ports: Vec<String> = model
            .ports
            .iter()
            .map(|p| {
                format!(
                    "PortDef {{ name: {:?}, input: {}, bits: {}, bytes: {} }}",
                    p.name, p.input, p.bits, p.bytes
                )
            })
            .collect();
        let attach = if model.traced {
            format!("Some(tandem_rtl_{name}_attach)")
        } else {
            "None".to_owned()
        };
        let attach_fn = if model.traced {
            format!("    fn tandem_rtl_{name}_attach(model: *mut c_void, fst: *mut c_void);\n")
        } else {
            String::new()
        };
        let _ = write!(
            text,
            "unsafe extern \"C\" {{\n    \
                 fn tandem_rtl_{name}_new(context: *mut c_void) -> *mut c_void;\n    \
                 fn tandem_rtl_{name}_delete(model: *mut c_void);\n    \
                 fn tandem_rtl_{name}_eval(model: *mut c_void) -> c_uint;\n    \
                 fn tandem_rtl_{name}_ports(model: *mut c_void, out: *mut *mut c_void);\n{attach_fn}}}\n\
             /// `{top}` {parameters}\n\
             pub static {upper}: ModelDef = ModelDef {{\n    \
                 name: {name:?},\n    top: {top:?},\n    parameters: {parameters:?},\n    \
                 ports: &[{ports}],\n    \
                 new: tandem_rtl_{name}_new,\n    delete: tandem_rtl_{name}_delete,\n    \
                 eval: tandem_rtl_{name}_eval,\n    port_addresses: tandem_rtl_{name}_ports,\n    \
                 attach: {attach},\n}};\n",
            top = model.top,
            parameters = model.parameters,
            ports = ports.join(", "),
        );
        names.push(format!("&{upper}"));
    }
    let _ = writeln!(
        text,
        "/// All models of this build.\npub static ALL: &[&ModelDef] = &[{}];",
        names.join(", ")
    );
    text
}
