/* check.c - verifying a data directory: the manifest decides what belongs to it, then every byte
 * of every file is read once. */
#include "store/lsm/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/files.h"
#include "store/lsm/table.h"
#include "store/lsm/table_rescue.h"
#include "store/lsm/wal_rescue.h"

struct check {
    struct vfs_dir *dir;
    struct manifest manifest;
    check_finding_fn *each;
    void *arg;
    struct check_summary *summary;
    char file[FILES_NAME_BYTES]; /* that is being looked at */
    bool has_manifest;
    uint64_t *numbers[2]; /* without one: of the segments and tables that are there… */
    size_t n_numbers[2], room_numbers[2];
};

const char *check_take_place(const char *text, char ret_name[FILES_NAME_BYTES],
                             uint64_t *ret_offset)
{
    size_t size = strcspn(text, ",:");
    unsigned long long offset;
    int used = 0;
    *ret_offset = 0;
    if (size == 0 || size >= FILES_NAME_BYTES || text[size] == '\0' || text[size + 1] != ' ') {
        return text;
    }
    if (sscanf(text + size, ", offset %llu: %n", &offset, &used) == 1 && used > 0) {
        *ret_offset = offset;
    } else if (text[size] == ':') {
        used = 2;
    } else {
        return text;
    }
    memcpy(ret_name, text, size);
    ret_name[size] = '\0';
    return text + size + used;
}

static void report(struct check *check, const struct check_finding *finding)
{
    if (finding->problem) {
        check->summary->problems++;
    } else {
        check->summary->notes++;
    }
    check->each(check->arg, finding);
}

static void report_damage(void *arg, uint64_t offset, const char *text)
{
    struct check *check = arg;
    report(check, &(struct check_finding){
                      .problem = true, .file = check->file, .offset = offset, .text = text});
}

/* Damage that is told by a detail, of the present file unless that says another. */
static void report_detail(struct check *check, const struct err_detail *detail, enum err err)
{
    char name[FILES_NAME_BYTES] = "";
    uint64_t offset = 0;
    const char *text = err_text(err);
    if (detail->text[0] != '\0') {
        text = check_take_place(detail->text, name, &offset);
    }
    report(check, &(struct check_finding){.problem = true,
                                          .file = name[0] != '\0' ? name : check->file,
                                          .offset = offset,
                                          .text = text});
}

/* --- Tables --- */

static void report_block(void *arg, uint64_t offset, struct bytes first_key, struct bytes end_key,
                         const char *text)
{
    struct check *check = arg;
    report(check, &(struct check_finding){.problem = true,
                                          .file = check->file,
                                          .offset = offset,
                                          .has_keys = true,
                                          .first_key = first_key,
                                          .end_key = end_key,
                                          .text = text});
}

/* Keys that a table's manifest entry says; size 0 where there is none. */
static void table_range(const struct table_info *info, struct bytes *ret_first,
                        struct bytes *ret_end, uint8_t end[RECORD_KEY_MAX_BYTES + 1])
{
    *ret_first = bytes_of(NULL, 0);
    *ret_end = bytes_of(NULL, 0);
    if (info) {
        /* The first key above the largest one. */
        memcpy(end, info->largest.data, info->largest.size);
        end[info->largest.size] = 0;
        *ret_first = bytes_of(info->smallest.data, info->smallest.size);
        *ret_end = bytes_of(end, info->largest.size + UINT64_C(1));
    }
}

/* The table as a whole can't be used: any key of its range may be affected. */
static void report_table(struct check *check, const struct table_info *info,
                         const struct err_detail *detail, enum err err)
{
    char name[FILES_NAME_BYTES];
    uint64_t offset = 0;
    const char *text = err_text(err);
    if (err == ERR_NOT_FOUND) {
        text = "the manifest names this file, and it is missing";
    } else if (detail->text[0] != '\0') {
        text = check_take_place(detail->text, name, &offset);
    }
    uint8_t end[RECORD_KEY_MAX_BYTES + 1];
    struct bytes first_key, end_key;
    table_range(info, &first_key, &end_key, end);
    report_block(check, offset, first_key, end_key, text);
}

/* Of a table that can't be opened: what else of it is damaged. */
static void look_at_records(struct check *check, const struct table_info *info)
{
    struct table_rescue *rescue;
    struct rescue_item item = {.text = NULL};
    if (table_rescue_open(check->dir, check->file, info, &rescue, NULL) != ERR_OK) {
        return;
    }
    while (table_rescue_next(rescue, &item) == ERR_OK && (item.record || item.text)) {
        if (item.text) {
            report_block(check, item.offset, item.first_key, item.end_key, item.text);
        }
    }
    table_rescue_free(rescue);
}

/* info NULL: there is no manifest to say what the table should be. */
static void check_table(struct check *check, uint64_t number, const struct table_info *info)
{
    struct err_detail detail = {""};
    uint64_t before = check->summary->problems;
    struct table *table = NULL;

    files_name(FILE_TABLE, number, check->file);
    check->summary->tables++;
    enum err err = table_open(check->dir, check->manifest.store_id, number, info, &table, &detail);
    const struct table_info *known = table ? table_info(table) : info;
    if (known) {
        check->summary->bytes += known->size_bytes;
        check->summary->table_records += known->records;
    }
    if (known && !check->has_manifest && known->max_seq > check->summary->last_seq) {
        check->summary->last_seq = known->max_seq;
    }
    if (table) {
        err = table_verify(check->dir, table, report_block, check, &detail);
        table_free(table);
    }
    if (err != ERR_OK && check->summary->problems == before) {
        report_table(check, info, &detail, err);
        if (err != ERR_NOT_FOUND && !table) {
            look_at_records(check, info);
        }
    }
}

/* --- Segments --- */

static enum err count_record(void *arg, const struct record *record, const char *file)
{
    (void)record;
    (void)file;
    ((struct check *)arg)->summary->log_records++;
    return ERR_OK;
}

static enum err pass_frame(void *arg, const struct frame_header *frame,
                           const struct record *const records[], uint64_t segment_number,
                           uint64_t offset)
{
    (void)arg;
    (void)frame;
    (void)records;
    (void)segment_number;
    (void)offset;
    return ERR_OK;
}

/* Where nothing says that it was acknowledged, a bad place is only a torn tail. */
static void report_place(void *arg, const struct wal_place *place)
{
    report(arg, &(struct check_finding){.problem = place->kind != WAL_PLACE_TORN,
                                        .file = place->file,
                                        .offset = place->offset,
                                        .first_seq = place->first_seq,
                                        .last_seq = place->last_seq,
                                        .keys = place->keys,
                                        .n_keys = place->n_keys,
                                        .text = place->text});
}

static bool exists(const struct check *check, const char *name)
{
    struct vfs_file *file = NULL;
    enum err err = vfs_open(check->dir, name, VFS_READ, &file);
    vfs_close(file);
    return err != ERR_NOT_FOUND;
}

/* What replay refuses is damage, also if the places that were told don't show it. */
static void try_replay(struct check *check, uint64_t problems_before)
{
    const struct manifest *manifest = &check->manifest;
    struct wal_replay replay;
    struct err_detail detail = {""};
    enum err err =
        wal_replay(check->dir, manifest->store_id, manifest->segments, manifest->n_segments,
                   manifest->covered_seq + 1, pass_frame, NULL, check, &replay, &detail);
    if (err == ERR_OK) {
        check->summary->last_seq = replay.next_seq - 1;
        return;
    }
    /* It ends by recommending what is being done here. */
    char *advice = strstr(detail.text, "; `varve check`");
    if (advice) {
        *advice = '\0';
    }
    if (check->summary->problems == problems_before) {
        strcpy(check->file, "log");
        report_detail(check, &detail, err);
    }
}

static void check_segments(struct check *check, const uint64_t numbers[], size_t n)
{
    struct wal_rescue_file *files = calloc(n + 1, sizeof files[0]);
    struct wal_rescued rescued;
    struct err_detail detail = {""};
    uint64_t before = check->summary->problems;

    for (size_t i = 0; files && i < n; i++) {
        files[i].number = numbers[i];
        files_name(FILE_SEGMENT, numbers[i], files[i].name);
        if (!exists(check, files[i].name)) {
            files[i].name[0] = '\0';
        }
    }
    check->summary->segments = n;
    enum err err =
        files ? wal_rescue(check->dir, check->manifest.store_id, files, n, check->summary->last_seq,
                           1, count_record, report_place, check, &rescued, &detail)
              : ERR_NO_MEMORY;
    if (err != ERR_OK) {
        strcpy(check->file, "log");
        report_detail(check, &detail, err);
    } else {
        check->summary->last_seq = rescued.next_seq - 1;
    }
    free(files);
    if (check->has_manifest) {
        try_replay(check, before);
    }
}

/* --- Directory --- */

static bool is_named(const struct check *check, enum file_kind kind, uint64_t number)
{
    for (size_t i = 0; kind == FILE_TABLE && i < check->manifest.n_tables; i++) {
        if (check->manifest.tables[i].info.number == number) {
            return true;
        }
    }
    for (size_t i = 0; kind == FILE_SEGMENT && i < check->manifest.n_segments; i++) {
        if (check->manifest.segments[i] == number) {
            return true;
        }
    }
    return false;
}

/* Without a manifest: notes the numbers of what there is. */
static bool note_number(void *arg, const char *name)
{
    struct check *check = arg;
    enum file_kind kind;
    uint64_t number;
    if (!files_parse_name(name, &kind, &number)) {
        return true;
    }
    size_t which = kind == FILE_TABLE;
    if (check->n_numbers[which] == check->room_numbers[which]) {
        size_t room = 2 * check->room_numbers[which] + 16;
        uint64_t *grown = realloc(check->numbers[which], room * sizeof grown[0]);
        if (!grown) {
            return false;
        }
        check->numbers[which] = grown;
        check->room_numbers[which] = room;
    }
    check->numbers[which][check->n_numbers[which]++] = number;
    return true;
}

static int by_number(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* Everything that is there, each file by itself. */
static void check_all_files(struct check *check)
{
    for (size_t which = 0; which < 2; which++) {
        if (check->n_numbers[which] > 0) {
            qsort(check->numbers[which], check->n_numbers[which], sizeof(uint64_t), by_number);
        }
    }
    for (size_t i = 0; i < check->n_numbers[1]; i++) {
        check_table(check, check->numbers[1][i], NULL);
    }
    check_segments(check, check->numbers[0], check->n_numbers[0]);
    free(check->numbers[0]);
    free(check->numbers[1]);
}

/* The manifest is damaged, or missing: that is damage if there is anything that one would name. */
static enum err check_without_manifest(struct check *check, const char *path, enum err why,
                                       struct err_detail *detail)
{
    enum err err = vfs_dir_list(check->dir, note_number, check);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot list %s: %s", path, strerror(errno));
        return err;
    }
    if (why == ERR_NOT_FOUND && check->n_numbers[0] + check->n_numbers[1] == 0) {
        err_detail_set(detail, "%s has no " FILES_MANIFEST ": it is no data directory of varve",
                       path);
        return ERR_NOT_FOUND;
    }
    if (why == ERR_NOT_FOUND) {
        report_damage(check, 0, "the manifest is missing, but there are tables or log segments");
    }
    check_all_files(check);
    return ERR_OK;
}

static bool look_at_name(void *arg, const char *name)
{
    struct check *check = arg;
    enum file_kind kind;
    uint64_t number;
    if (files_parse_name(name, &kind, &number) && kind != FILE_MANIFEST &&
        !is_named(check, kind, number)) {
        report(check, &(struct check_finding){
                          .file = name,
                          .text = "the manifest doesn't name this file; it is removed at the next "
                                  "start"});
    }
    return true;
}

static enum err check_open_dir(struct check *check, const char *path, struct err_detail *detail)
{
    strcpy(check->file, FILES_MANIFEST);
    struct err_detail why = {""};
    enum err err = manifest_load(check->dir, &check->manifest, &why);
    if (err == ERR_CORRUPT || err == ERR_FORMAT) {
        report_detail(check, &why, err);
    }
    if (err == ERR_FORMAT) {
        return ERR_OK; /* then so are the others, and what they say isn't known here */
    }
    if (err == ERR_CORRUPT || err == ERR_NOT_FOUND) {
        return check_without_manifest(check, path, err, detail);
    }
    if (err != ERR_OK) {
        err_detail_set(detail, "%s", why.text[0] ? why.text : err_text(err));
        return err;
    }
    check->has_manifest = true;
    check->summary->last_seq = check->manifest.covered_seq;
    for (size_t i = 0; i < check->manifest.n_tables; i++) {
        const struct table_info *info = &check->manifest.tables[i].info;
        check_table(check, info->number, info);
    }
    check_segments(check, check->manifest.segments, check->manifest.n_segments);
    err = vfs_dir_list(check->dir, look_at_name, check);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot list %s: %s", path, strerror(errno));
    }
    manifest_release(&check->manifest);
    return err;
}

enum err check_dir(const struct vfs *vfs, const char *path, check_finding_fn *each, void *arg,
                   struct check_summary *ret_summary, struct err_detail *detail)
{
    memset(ret_summary, 0, sizeof *ret_summary);
    struct check check = {.each = each, .arg = arg, .summary = ret_summary};
    enum err err = vfs_dir_open(vfs, path, false, &check.dir);
    if (err != ERR_OK) {
        err_detail_set(detail, "cannot open data directory %s: %s", path, strerror(errno));
        return err;
    }
    err = vfs_dir_lock(check.dir);
    if (err == ERR_LOCKED) {
        err_detail_set(detail, "data directory %s is in use by another process; stop it first",
                       path);
    } else if (err != ERR_OK) {
        err_detail_set(detail, "cannot lock data directory %s: %s", path, strerror(errno));
    } else {
        err = check_open_dir(&check, path, detail);
    }
    vfs_dir_close(check.dir);
    return err;
}
