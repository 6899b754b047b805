/* cmd_dump.c - `varve dump FILE`: what a log segment, a table or a manifest says, an entry a line.
 *
 * An entry is built as a JSON object in both forms; the text is its members as name=value. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/base64url.h"
#include "service/command.h"
#include "service/printable.h"
#include "store/lsm/check.h"

struct arguments {
    bool json;
};

static const struct option_spec specs[] = {
    {
        .name = "json",
        .group = "Output",
        .kind = OPTION_FLAG,
        .offset = OPTION_MEMBER(struct arguments, json, bool),
        .text = "Print one JSON object a line.",
    },
};

static const struct option_table options = {
    .command = "dump",
    .summary = "Print what a log segment, a table or a manifest holds.",
    .operands = "FILE",
    .details =
        "Prints an entry a line as name=value, in the file's order. Values are not shown, only "
        "their sizes. A key that isn't UTF-8 is shown as key64, in base64url. A damaged place is "
        "an entry, too, and what is intact behind it is shown. The file may be in use: what is "
        "being written to it just now may then look like damage.\n\n"
        "Exit status: 0 the file is intact, 1 it is damaged or can't be read, 2 called wrongly.",
    .operands_min = 1,
    .operands_max = 1,
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

struct dump {
    bool json;
    bool damaged;
    bool failed; /* out of memory, or the output can't be written */
};

/* --- Entries --- */

static json_t *entry_new(const char *kind)
{
    json_t *entry = json_object();

    (void)json_object_set_new(entry, "entry", json_string(kind));
    return entry;
}

static void add_number(json_t *entry, const char *name, uint64_t number)
{
    (void)json_object_set_new(entry, name, json_integer((json_int_t)number));
}

/* Numbers of files, as in their names, and ids. */
static void add_hex(json_t *entry, const char *name, uint64_t number)
{
    (void)json_object_set_new(entry, name, json_sprintf("%016" PRIx64, number));
}

static void add_base64url(json_t *entry, const char *name, const char *suffix, struct bytes bytes)
{
    char full[40];
    size_t len = base64url_text_len(bytes.size);
    char *text = malloc(len + 1);

    if (text) {
        base64url_encode(bytes.data, bytes.size, text);
        (void)snprintf(full, sizeof(full), "%s%s", name, suffix);
        (void)json_object_set_new(entry, full, json_stringn(text, len));
    }
    free(text);
}

/* As text where it is UTF-8, which json_stringn() checks; else as `name`64. */
static void add_bytes(json_t *entry, const char *name, struct bytes bytes)
{
    json_t *text = json_stringn(bytes.data, bytes.size);

    if (text)
        (void)json_object_set_new(entry, name, text);
    else
        add_base64url(entry, name, "64", bytes);
}

static void add_text(json_t *entry, const char *name, struct bytes bytes)
{
    if (bytes.size > 0)
        add_bytes(entry, name, bytes);
}

/* --- Lines --- */

static void print_member(const char *name, const json_t *value)
{
    printf(" %s=", name);
    if (json_is_string(value))
        printable_write(bytes_of(json_string_value(value), json_string_length(value)), stdout);
    else
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

static void print_text(json_t *entry)
{
    const char *name;
    json_t *value;

    bool first = true; /* what kind of entry it is */

    json_object_foreach (entry, name, value) {
        if (first)
            fputs(json_string_value(value), stdout);
        else
            print_member(name, value);
        first = false;
    }
}

/* Prints the entry and frees it. */
static void print_entry(struct dump *dump, json_t *entry)
{
    if (!entry || ferror(stdout)) {
        dump->failed = true;
    } else if (dump->json) {
        dump->failed |= json_dumpf(entry, stdout, JSON_COMPACT) != 0;
        putchar('\n');
    } else {
        print_text(entry);
        putchar('\n');
    }
    json_decref(entry);
}

/* --- What a file holds --- */

static void add_table(json_t *entry, const struct table_info *info)
{
    add_hex(entry, "number", info->number);
    add_hex(entry, "file_id", info->file_id);
    add_number(entry, "size_bytes", info->size_bytes);
    add_number(entry, "records", info->records);
    add_number(entry, "markers", info->markers);
    add_number(entry, "min_seq", info->min_seq);
    add_number(entry, "max_seq", info->max_seq);
    add_number(entry, "data_bytes", info->data_bytes);
    add_bytes(entry, "smallest", bytes_of(info->smallest.data, info->smallest.size));
    add_bytes(entry, "largest", bytes_of(info->largest.data, info->largest.size));
}

static void on_manifest(void *arg, const struct manifest *manifest)
{
    json_t *entry;

    if (manifest->epoch != 0) { /* else that part is damaged */
        entry = entry_new("manifest");
        add_number(entry, "number", manifest->number);
        add_hex(entry, "store_id", manifest->store_id);
        add_hex(entry, "epoch", manifest->epoch);
        add_hex(entry, "next_file", manifest->next_file);
        add_number(entry, "covered_seq", manifest->covered_seq);
        add_number(entry, "clock_ms", manifest->clock_ms);
        print_entry(arg, entry);
    }
    for (size_t i = 0; i < manifest->n_tables; i++) {
        entry = entry_new("table");
        add_number(entry, "level", manifest->tables[i].level);
        add_table(entry, &manifest->tables[i].info);
        print_entry(arg, entry);
    }
    for (size_t i = 0; i < manifest->n_segments; i++) {
        entry = entry_new("segment");
        add_hex(entry, "number", manifest->segments[i]);
        print_entry(arg, entry);
    }
}

static void on_table(void *arg, const struct table_info *info)
{
    json_t *entry = entry_new("table");

    add_table(entry, info);
    print_entry(arg, entry);
}

static void on_segment(void *arg, uint64_t number, uint64_t size_bytes)
{
    json_t *entry = entry_new("segment");

    add_hex(entry, "number", number);
    add_number(entry, "size_bytes", size_bytes);
    print_entry(arg, entry);
}

static void on_frame(void *arg, uint64_t offset, const struct frame_header *frame)
{
    json_t *entry = entry_new("frame");

    add_number(entry, "offset", offset);
    add_number(entry, "records", frame->count);
    add_number(entry, "records_bytes", frame->records_bytes);
    add_number(entry, "first_seq", frame->first_seq);
    add_number(entry, "durable_upto", frame->durable_upto);
    print_entry(arg, entry);
}

static void on_record(void *arg, const struct record *record)
{
    bool put = record->kind == RECORD_PUT;
    json_t *entry = entry_new(put ? "put" : "delete");
    struct record_meta meta;

    add_number(entry, "seq", record->seq);
    add_bytes(entry, "key", record_key(record));
    if (put) {
        record_meta_get(record, &meta);
        add_number(entry, "value_bytes", record->value_size);
        add_number(entry, "modified_ms", meta.modified_ms);
        add_text(entry, "content_type", meta.content_type);
        add_text(entry, "content_encoding", meta.content_encoding);
        add_text(entry, "cache_control", meta.cache_control);
    }
    if (record->flags & RECORD_LAST_OF_BATCH)
        add_number(entry, "last_of_batch", 1);
    print_entry(arg, entry);
}

static void on_damage(void *arg, uint64_t offset, const char *text)
{
    struct dump *dump = arg;
    json_t *entry = entry_new("damage");

    dump->damaged = true;
    add_number(entry, "offset", offset);
    (void)json_object_set_new(entry, "text", json_string(text));
    print_entry(dump, entry);
}

static int run(int argc, char *const argv[])
{
    struct arguments arguments = {0};
    struct err_detail why = {""};
    struct operands operands;
    int status;

    if (!command_parse(&command_dump, argc, argv, &arguments, &operands, &status))
        return status;
    struct dump dump = {.json = arguments.json};
    struct dump_visitor visitor = {
        .manifest = on_manifest,
        .table = on_table,
        .segment = on_segment,
        .frame = on_frame,
        .record = on_record,
        .damage = on_damage,
        .arg = &dump,
    };
    enum err err = dump_file(vfs_posix(), operands.items[0], &visitor, &why);
    if (err != ERR_OK) {
        fprintf(stderr, "varve dump: %s\n", why.text[0] != '\0' ? why.text : err_text(err));
        return STATUS_FAILED;
    }
    if (dump.failed) {
        fputs("varve dump: cannot write the output\n", stderr);
        return STATUS_FAILED;
    }
    return dump.damaged ? STATUS_FAILED : STATUS_OK;
}

const struct command command_dump = {.options = &options, .run = run};
