// The schemas of arrays and objects.

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <set>

#include "base/status_macros.h"
#include "engine/grammar/schema_builder.h"
#include "model/tokenizer/utf8.h"

namespace liquidgemm {
namespace {

constexpr std::int64_t kMaxItems = 10'000;
constexpr std::int64_t kCost = 16;         // of an array or object
constexpr std::int64_t kCopyCost = 4;      // of one more item of a counted list
constexpr std::int64_t kMaxCopies = 256;   // beyond, items are counted while the answer is written
constexpr std::size_t kMaxNameNodes = 64;  // of the tree of names beside additionalProperties

bool is_false(const json::Value* value) {
  return value != nullptr && value->is_bool() && !value->get_bool();
}

}  // namespace

Result<SchemaBuilder::Rule> SchemaBuilder::array(const json::Object& object,
                                                 const std::string& path) {
  LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(kCost));
  const json::Reader reader(object, "schema", path);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto min_items, reader.optional_int("minItems", 0, kMaxItems));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const auto max_items, reader.optional_int("maxItems", 0, kMaxItems));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Array* prefix, reader.optional_array("prefixItems"));
  const std::int64_t least = min_items.value_or(0);
  std::int64_t most = max_items.value_or(-1);
  if (most >= 0 && least > most) {
    return invalid_argument(fmt::format("schema: {}: \"minItems\" is above \"maxItems\"", path));
  }

  std::vector<Rule> items;
  if (prefix != nullptr) {
    for (const json::Value& item : *prefix) {
      if (most >= 0 && static_cast<std::int64_t>(items.size()) == most) break;
      LIQUIDGEMM_ASSIGN_OR_RETURN(
          const Rule rule, schema(item, fmt::format("{}/prefixItems/{}", path, items.size())));
      items.push_back(rule);
    }
  }
  const auto in_prefix = static_cast<std::int64_t>(items.size());

  // Without `items`, what follows `prefixItems` is left out; a list of anything has neither.
  const json::Value* item_schema = object.if_contains("items");
  if (item_schema != nullptr && item_schema->is_array()) {
    return unsupported(fmt::format(
        "schema: {}/items: a list of schemas is not supported; use \"prefixItems\"", path));
  }
  const bool closed = is_false(item_schema) || is_false(object.if_contains("unevaluatedItems")) ||
                      (item_schema == nullptr && prefix != nullptr && least <= in_prefix);
  std::string further;
  Rule item = 0;
  if (!closed && (most < 0 || most > in_prefix)) {
    if (item_schema == nullptr) {
      item = leaf(json_.any_value());
    } else {
      LIQUIDGEMM_ASSIGN_OR_RETURN(item, schema(*item_schema, path + "/items"));
    }
    further = GrammarText::reference(item);
  }
  if (further.empty() && least > in_prefix) {
    return invalid_argument(
        fmt::format("schema: {}: \"minItems\" is above the number of items that may come", path));
  }

  // From the end: what may follow so many items.
  const std::string separator = JsonGrammar::separator();
  std::string rest = "\"\"";
  if (!further.empty()) {
    std::int64_t low = std::max<std::int64_t>(least - in_prefix, 0);
    std::int64_t high = most < 0 ? -1 : most - in_prefix;
    LIQUIDGEMM_RETURN_IF_ERROR(
        grammar_.spend(kCopyCost * std::min(kMaxCopies, std::max<std::int64_t>({low, high, 1}))));
    if (in_prefix == 0) {
      const std::string following = GrammarText::repeat(
          separator + " " + further, std::max<std::int64_t>(low - 1, 0), high < 0 ? -1 : high - 1);
      rest = further + " " + following;
      if (low == 0) rest = "(" + rest + ")?";
    } else {
      rest = GrammarText::repeat(separator + " " + further, low, high);
    }
  }
  for (std::int64_t i = in_prefix; i-- > 0;) {
    const std::string this_item = GrammarText::reference(items[static_cast<std::size_t>(i)]);
    rest = (i > 0 ? separator + " " : "") + this_item + " " + rest;
    if (i >= least) {
      rest = GrammarText::reference(grammar_.add("\"\" | " + rest));
    }
  }

  Shape shape;
  shape.ways.emplace_back();
  for (std::int64_t i = 0; i < std::min(least, in_prefix); ++i) {
    shape.ways[0].push_back(items[static_cast<std::size_t>(i)]);
  }
  if (least > in_prefix) shape.ways[0].push_back(item);
  const std::string space = JsonGrammar::space();
  return composite(fmt::format("\"[\" {0} {1} {0} \"]\"", space, rest), std::move(shape));
}

Result<std::vector<std::string>> SchemaBuilder::required_names(const json::Object& object,
                                                               const std::string& path) const {
  std::vector<std::string> names;
  const json::Value* list = object.if_contains("required");
  if (list == nullptr) return names;
  const auto refuse = [&] {
    return invalid_argument(
        fmt::format("schema: {}/required: expected a list of property names", path));
  };
  if (!list->is_array()) return refuse();
  std::set<std::string> seen;
  for (const json::Value& name : list->get_array()) {
    if (!name.is_string()) return refuse();
    std::string text(name.get_string());
    if (seen.insert(text).second) names.push_back(std::move(text));
  }
  return names;
}

Result<SchemaBuilder::Rule> SchemaBuilder::object(const json::Object& object,
                                                  const std::string& path) {
  LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(kCost));
  const json::Reader reader(object, "schema", path);
  LIQUIDGEMM_ASSIGN_OR_RETURN(const json::Object* declared, reader.optional_object("properties"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::vector<std::string> required,
                              required_names(object, path));
  const json::Value* additional_schema = object.if_contains("additionalProperties");
  if (declared == nullptr && required.empty() && additional_schema == nullptr &&
      !is_false(object.if_contains("unevaluatedProperties"))) {
    return leaf(json_.any_object());
  }

  Additional additional;
  if (additional_schema != nullptr && !is_false(additional_schema)) {
    additional.allowed = true;
    LIQUIDGEMM_ASSIGN_OR_RETURN(additional.value,
                                schema(*additional_schema, path + "/additionalProperties"));
  }

  const std::set<std::string> needed(required.begin(), required.end());
  std::vector<Property> properties;
  Shape shape;
  shape.ways.emplace_back();
  if (declared != nullptr) {
    for (const auto& member : *declared) {
      Property property;
      property.name = std::string(member.key());
      property.required = needed.contains(property.name);
      if (is_false(&member.value())) {  // it must not come
        if (property.required) {
          return invalid_argument(fmt::format("schema: {}/properties/{}: required, but \"false\"",
                                              path, property.name.substr(0, 100)));
        }
        if (additional.allowed) {
          return unsupported(fmt::format(
              "schema: {}/properties/{}: \"false\" beside additionalProperties is not supported",
              path, property.name.substr(0, 100)));
        }
        continue;
      }
      LIQUIDGEMM_ASSIGN_OR_RETURN(
          property.value,
          schema(member.value(), path + "/properties/" + property.name.substr(0, 100)));
      if (property.required) shape.ways[0].push_back(property.value);
      properties.push_back(std::move(property));
    }
  }
  for (const std::string& name : required) {
    if (declared != nullptr && declared->contains(name)) continue;
    if (!additional.allowed) {
      // JSON Schema allows any value here, and so does the answer.
      if (additional_schema != nullptr) {
        return invalid_argument(
            fmt::format("schema: {}/required: \"{}\" is not among the properties, and "
                        "additionalProperties is false",
                        path, name.substr(0, 100)));
      }
      properties.push_back({name, leaf(json_.any_value()), true});
    } else {
      properties.push_back({name, additional.value, true});
      shape.ways[0].push_back(additional.value);
    }
  }
  if (additional.allowed) {
    LIQUIDGEMM_ASSIGN_OR_RETURN(additional.key, other_key(properties));
  }
  auto inside = members(properties, additional);
  if (!inside.ok()) return inside.status().with_context("schema: " + path);
  const std::string space = JsonGrammar::space();
  return composite(fmt::format("\"{{\" {0} {1} {0} \"}}\"", space, *inside), std::move(shape));
}

// The properties in the schema's order, the optional ones or not, then any others.
Result<std::string> SchemaBuilder::members(const std::vector<Property>& properties,
                                           const Additional& additional) {
  const std::string separator = JsonGrammar::separator() + " ";
  std::string others;  // after at least one property
  std::string only_others = "\"\"";
  if (additional.allowed) {
    const std::string member = additional.key + " " + JsonGrammar::space() + " \":\" " +
                               JsonGrammar::space() + " " +
                               GrammarText::reference(additional.value);
    others = "(" + separator + member + ")*";
    only_others = GrammarText::reference(grammar_.add("\"\" | " + member + " " + others));
  }

  // after[i]: what follows once a property has come, from property i on.
  const std::size_t count = properties.size();
  std::vector<std::string> entries(count);
  std::vector<std::string> after(count + 1);
  after[count] = others.empty() ? "\"\"" : others;
  const bool any_optional = std::any_of(properties.begin(), properties.end(),
                                        [](const Property& p) { return !p.required; });
  std::int64_t optional_after = 0;
  for (std::size_t i = count; i-- > 0;) {
    const Property& property = properties[i];
    entries[i] = JsonGrammar::name(property.name) + " " + GrammarText::reference(property.value);
    LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(static_cast<std::int64_t>(property.name.size()) + 4));
    if (any_optional) after[i + 1] = GrammarText::reference(grammar_.add(after[i + 1]));
    after[i] = separator + entries[i] + " " + after[i + 1];
    if (property.required) continue;
    after[i] = after[i + 1] + " | " + after[i];
    // Every property that may come next is one more way to go on, at each of them.
    LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(1 + optional_after++ / 3));
  }

  std::vector<std::string> beginnings;
  for (std::size_t i = 0; i < count; ++i) {
    beginnings.push_back(entries[i] + " " + after[i + 1]);
    if (properties[i].required) return GrammarText::choice(beginnings);
  }
  beginnings.push_back(only_others);
  return GrammarText::choice(beginnings);
}

// Names that none of the properties has: a tree of the beginnings they share with them. They are
// written without escapes, so that no name can be written in another way.
Result<std::string> SchemaBuilder::other_key(const std::vector<Property>& properties) {
  const CharacterSet& plain = CharacterSet::plain_in_json();
  const std::string any_rest = GrammarText::reference(
      grammar_.add(GrammarText::character_class(plain) + "* \"\\U00000022\""));
  std::vector<std::string> names;
  for (const Property& property : properties) names.push_back(property.name);
  std::sort(names.begin(), names.end());

  struct Node {
    Rule rule;
    std::size_t first, last, from;  // the names that begin so, and the bytes that are read
  };
  const Rule root = grammar_.reserve();
  std::deque<Node> open = {{root, 0, names.size(), 0}};
  std::size_t nodes = 1;
  while (!open.empty()) {
    const Node node = open.front();
    open.pop_front();
    LIQUIDGEMM_RETURN_IF_ERROR(grammar_.spend(GrammarText::cost(plain)));
    std::vector<std::string> choices;
    CharacterSet taken;
    std::size_t i = node.first;
    if (i < node.last && names[i].size() == node.from) {
      ++i;  // this is one of the properties' names, which must not end here
    } else {
      choices.emplace_back("\"\\U00000022\"");
    }
    while (i < node.last) {
      const CodePoint c = code_point_at(names[i], node.from);
      std::size_t end = i + 1;
      while (end < node.last &&
             names[end].compare(node.from, c.length, names[i], node.from, c.length) == 0) {
        ++end;
      }
      const CharacterSet single = {{c.value, c.value}};
      if (!single.both(plain).empty()) {
        taken.add(c.value, c.value);
        // Past the limit, the names that begin like this property's are left out altogether.
        if (++nodes > kMaxNameNodes) {
          i = end;
          continue;
        }
        const Rule rule = grammar_.reserve();
        choices.push_back(GrammarText::character_class(single) + " " +
                          GrammarText::reference(rule));
        open.push_back({rule, i, end, node.from + c.length});
      }
      i = end;
    }
    choices.push_back(GrammarText::character_class(plain.minus(taken)) + " " + any_rest);
    grammar_.define(node.rule, GrammarText::choice(choices));
  }
  return "\"\\U00000022\" " + GrammarText::reference(root);
}

}  // namespace liquidgemm
