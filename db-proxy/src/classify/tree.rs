//! The walk over a parse tree.

use pg_raw_parse::nodes::{self, TransactionStmtKind, VariableSetKind};
use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{ConstValue, Node};

use super::functions::{ReadFunctions, disturbs_session, is_about_the_node};
use super::{Class, Classified, Effect};

/// `CURSOR_OPT_HOLD` of Postgres' parsenodes.h.
const CURSOR_WITH_HOLD: i32 = 0x20;

/// `None`: not Postgres' grammar.
pub(super) fn classify(sql: &str, functions: &ReadFunctions) -> Option<Classified> {
    let parsed = pg_raw_parse::parse(sql).ok()?;
    let mut effects = Vec::new();
    let mut classes = Vec::new();
    for raw in parsed.iter() {
        classes.push(statement(raw.stmt(), text_of(raw, sql), functions, &mut effects));
    }
    let class = match classes.as_slice() {
        [] => Class::Nothing,
        [class] => *class,
        classes if classes.iter().all(|class| *class == Class::Read) => Class::Read,
        _ => Class::Write,
    };
    Some(Classified { class, effects })
}

fn text_of<'a>(raw: &nodes::RawStmt, sql: &'a str) -> &'a str {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0);
    let text = sql.get(start..).unwrap_or(sql);
    match usize::try_from(raw.stmt_len) {
        Ok(length) if length > 0 => text.get(..length).unwrap_or(text),
        _ => text,
    }
}

fn statement(node: Node<'_>, text: &str, functions: &ReadFunctions, effects: &mut Vec<Effect>) -> Class {
    match node {
        Node::SelectStmt(_) => query(node, functions, effects),
        Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_) | Node::MergeStmt(_) => {
            query(node, functions, effects);
            Class::Write
        }
        Node::VariableShowStmt(_) => Class::Read,
        Node::ExplainStmt(explain) => query(explain.query(), functions, effects),
        Node::CopyStmt(copy) if !copy.is_from && copy.filename().is_none() && !copy.is_program => {
            match copy.query() {
                Node::None => Class::Read,
                inner => query(inner, functions, effects),
            }
        }
        Node::TransactionStmt(transaction) => transaction_control(transaction, effects),
        other => {
            effects.extend(utility_effect(other, text));
            match other {
                Node::DeallocateStmt(_) => Class::Deallocate,
                _ => Class::Write,
            }
        }
    }
}

/// Walks with its own stack: a sum of ten thousand terms is a tree ten thousand deep, and a thread's stack is not.
fn query(root: Node<'_>, functions: &ReadFunctions, effects: &mut Vec<Effect>) -> Class {
    let mut class = if matches!(root, Node::SelectStmt(_)) { Class::Read } else { Class::Write };
    let mut open = vec![root];
    while let Some(node) = open.pop() {
        if !only_reads(node, functions, effects) {
            class = Class::Write;
        }
        walk_manual::<()>(node, |child| {
            open.push(child);
            Recurse::no()
        });
    }
    class
}

fn only_reads(node: Node<'_>, functions: &ReadFunctions, effects: &mut Vec<Effect>) -> bool {
    match node {
        Node::FuncCall(call) => {
            let mut names = call.funcname().iter().filter_map(Node::as_str).collect::<Vec<_>>();
            let name = names.pop().unwrap_or_default();
            if disturbs_session(name) {
                effects.push(Effect::Disturbs);
            }
            names.len() < 2 && functions.only_reads(names.pop(), name)
        }
        Node::RangeVar(table) => !is_about_the_node(table.schemaname(), table.relname().unwrap_or_default()),
        Node::IntoClause(into) => {
            effects.extend(into.rel().filter(|rel| is_temporary(rel)).map(|_| Effect::Disturbs));
            false
        }
        other => is_part_of_a_read(other),
    }
}

/// What a query that only reads is made of. Everything that is not named here makes it a write: DML, locking clauses, and
/// whatever a later grammar brings.
fn is_part_of_a_read(node: Node<'_>) -> bool {
    match node {
        Node::None
        | Node::NodeList(_)
        | Node::SelectStmt(_)
        | Node::WithClause(_)
        | Node::CommonTableExpr(_) => true,
        Node::CTESearchClause(_) | Node::CTECycleClause(_) | Node::Alias(_) | Node::ResTarget(_) => true,
        Node::ColumnRef(_) | Node::ParamRef(_) | Node::A_Expr(_) | Node::A_Const(_) | Node::A_Star(_) => true,
        Node::A_Indices(_) | Node::A_Indirection(_) | Node::A_ArrayExpr(_) | Node::NamedArgExpr(_) => true,
        Node::TypeCast(_)
        | Node::TypeName(_)
        | Node::CollateClause(_)
        | Node::SortBy(_)
        | Node::WindowDef(_) => true,
        Node::RangeSubselect(_)
        | Node::RangeFunction(_)
        | Node::RangeTableFunc(_)
        | Node::RangeTableFuncCol(_) => true,
        Node::RangeTableSample(_) | Node::JoinExpr(_) | Node::FromExpr(_) | Node::ColumnDef(_) => true,
        Node::BoolExpr(_) | Node::SubLink(_) | Node::CaseExpr(_) | Node::CaseWhen(_) | Node::RowExpr(_) => {
            true
        }
        Node::CoalesceExpr(_) | Node::MinMaxExpr(_) | Node::SQLValueFunction(_) | Node::NullTest(_) => true,
        Node::BooleanTest(_) | Node::GroupingFunc(_) | Node::GroupingSet(_) | Node::DefElem(_) => true,
        Node::Integer(_) | Node::Float(_) | Node::Boolean(_) | Node::String(_) | Node::BitString(_) => true,
        Node::XmlExpr(_) | Node::XmlSerialize(_) => true,
        other => is_json_read(other),
    }
}

fn is_json_read(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::JsonFormat(_)
            | Node::JsonReturning(_)
            | Node::JsonValueExpr(_)
            | Node::JsonIsPredicate(_)
            | Node::JsonBehavior(_)
            | Node::JsonOutput(_)
            | Node::JsonArgument(_)
            | Node::JsonFuncExpr(_)
            | Node::JsonTable(_)
            | Node::JsonTableColumn(_)
            | Node::JsonTablePathSpec(_)
            | Node::JsonKeyValue(_)
            | Node::JsonParseExpr(_)
            | Node::JsonScalarExpr(_)
            | Node::JsonSerializeExpr(_)
            | Node::JsonObjectConstructor(_)
            | Node::JsonArrayConstructor(_)
            | Node::JsonArrayQueryConstructor(_)
            | Node::JsonAggConstructor(_)
            | Node::JsonObjectAgg(_)
            | Node::JsonArrayAgg(_)
    )
}

fn transaction_control(transaction: &nodes::TransactionStmt, effects: &mut Vec<Effect>) -> Class {
    match transaction.kind {
        TransactionStmtKind::TRANS_STMT_BEGIN | TransactionStmtKind::TRANS_STMT_START => {
            let (mut read_only, mut serializable) = (false, false);
            for option in transaction.options() {
                let Node::DefElem(option) = option else { continue };
                let Node::A_Const(value) = option.arg() else { continue };
                match (option.defname(), value.val()) {
                    (Some("transaction_read_only"), Some(ConstValue::Integer(on))) => read_only = on != 0,
                    (Some("transaction_isolation"), Some(ConstValue::String(level))) => {
                        serializable = level.eq_ignore_ascii_case("serializable");
                    }
                    _ => {}
                }
            }
            Class::Begin { read_only: read_only && !serializable }
        }
        TransactionStmtKind::TRANS_STMT_COMMIT => Class::End { commit: true },
        TransactionStmtKind::TRANS_STMT_ROLLBACK => Class::End { commit: false },
        TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => {
            effects.push(Effect::RollbackTo);
            Class::Write
        }
        _ => Class::Write,
    }
}

fn utility_effect(node: Node<'_>, text: &str) -> Option<Effect> {
    match node {
        Node::VariableSetStmt(set) => parameter_effect(set, text),
        Node::DiscardStmt(discard) if discard.target == nodes::DiscardMode::DISCARD_ALL => {
            Some(Effect::DiscardAll)
        }
        Node::DeallocateStmt(deallocate) => Some(Effect::Deallocate {
            name: deallocate.name().filter(|_| !deallocate.isall).map(str::to_owned),
        }),
        Node::DeclareCursorStmt(cursor) => {
            (cursor.options & CURSOR_WITH_HOLD != 0).then_some(Effect::Disturbs)
        }
        Node::CreateStmt(table) => table.relation().filter(|rel| is_temporary(rel)).map(|_| Effect::Disturbs),
        Node::CreateTableAsStmt(table) => {
            let rel = table.into().and_then(nodes::IntoClause::rel);
            rel.filter(|rel| is_temporary(rel)).map(|_| Effect::Disturbs)
        }
        Node::ViewStmt(view) => view.view().filter(|rel| is_temporary(rel)).map(|_| Effect::Disturbs),
        Node::CreateSeqStmt(seq) => seq.sequence().filter(|rel| is_temporary(rel)).map(|_| Effect::Disturbs),
        Node::ListenStmt(_)
        | Node::UnlistenStmt(_)
        | Node::PrepareStmt(_)
        | Node::LoadStmt(_)
        | Node::DiscardStmt(_)
        | Node::DoStmt(_)
        | Node::CallStmt(_) => Some(Effect::Disturbs),
        _ => None,
    }
}

fn parameter_effect(set: &nodes::VariableSetStmt, text: &str) -> Option<Effect> {
    let name = set.name().unwrap_or_default().to_ascii_lowercase();
    match set.kind {
        _ if set.is_local => None,
        VariableSetKind::VAR_SET_VALUE => Some(Effect::Set { name, sql: text.trim().to_owned() }),
        VariableSetKind::VAR_SET_DEFAULT | VariableSetKind::VAR_RESET => Some(Effect::Reset { name }),
        VariableSetKind::VAR_RESET_ALL => Some(Effect::ResetAll),
        // SET TRANSACTION ends with its transaction; SET SESSION CHARACTERISTICS is several parameters in one.
        VariableSetKind::VAR_SET_MULTI if name.starts_with("transaction") => None,
        _ => Some(Effect::Disturbs),
    }
}

fn is_temporary(relation: &nodes::RangeVar) -> bool {
    relation.relpersistence == b't'.cast_signed() || relation.schemaname() == Some("pg_temp")
}
