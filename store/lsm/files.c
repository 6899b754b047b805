/* files.c - names and headers of a data directory's files. */
#include "store/lsm/files.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"

#define CHECKSUM_CRC32C 1u
#define NUMBER_DIGITS   16u

struct kind {
    char letter;         /* last byte of the magic */
    const char *suffix;  /* of numbered files */
    const char *article; /* "a segment", for sentences */
};

static const struct kind kinds[] = {
    [FILE_SEGMENT] = {'L', ".log", "a log segment"},
    [FILE_TABLE] = {'T', ".table", "a table"},
    [FILE_MANIFEST] = {'M', NULL, "a manifest"},
};

enum { KINDS = sizeof kinds / sizeof kinds[0], MAGIC_BYTES = 8 };

static void make_magic(enum file_kind kind, uint8_t ret_magic[MAGIC_BYTES])
{
    memcpy(ret_magic, "varve\r\n", MAGIC_BYTES - 1);
    ret_magic[MAGIC_BYTES - 1] = (uint8_t)kinds[kind].letter;
}

void files_name(enum file_kind kind, uint64_t number, char ret_name[FILES_NAME_BYTES])
{
    assert(kind == FILE_SEGMENT || kind == FILE_TABLE);
    (void)snprintf(ret_name, FILES_NAME_BYTES, "%016" PRIx64 "%s", number, kinds[kind].suffix);
}

void files_name_next(uint64_t number, uint64_t failed_syncs, char ret_name[FILES_NAME_BYTES])
{
    if (failed_syncs == 0) {
        (void)snprintf(ret_name, FILES_NAME_BYTES, FILES_MANIFEST_NEXT);
    } else {
        (void)snprintf(ret_name, FILES_NAME_BYTES, FILES_MANIFEST_NEXT ".%" PRIx64 ".%" PRIx64,
                       number, failed_syncs);
    }
}

/* True for digits and a dot and digits. */
static bool is_counted(const char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t first = strspn(text, digits);
    size_t second = text[first] == '.' ? strspn(text + first + 1, digits) : 0;
    return first > 0 && second > 0 && text[first + 1 + second] == '\0';
}

bool files_is_next(const char *name)
{
    size_t size = strlen(FILES_MANIFEST_NEXT);
    return strncmp(name, FILES_MANIFEST_NEXT, size) == 0 &&
           (name[size] == '\0' || (name[size] == '.' && is_counted(name + size + 1)));
}

bool files_is_anybodys(const char *name)
{
    return name[0] == '.' || strcmp(name, "lost+found") == 0;
}

static bool parse_digit(char digit, unsigned *ret_value)
{
    if (digit >= '0' && digit <= '9') {
        *ret_value = (unsigned)(digit - '0');
        return true;
    }
    if (digit >= 'a' && digit <= 'f') {
        *ret_value = (unsigned)(digit - 'a') + 10;
        return true;
    }
    return false;
}

bool files_parse_name(const char *name, enum file_kind *ret_kind, uint64_t *ret_number)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < NUMBER_DIGITS; i++) {
        unsigned digit;
        if (!parse_digit(name[i], &digit)) {
            return false; /* the NUL of a shorter name, too */
        }
        number = number << 4 | digit;
    }
    for (enum file_kind kind = FILE_SEGMENT; kind <= FILE_TABLE; kind++) {
        if (strcmp(name + NUMBER_DIGITS, kinds[kind].suffix) == 0) {
            *ret_kind = kind;
            *ret_number = number;
            return true;
        }
    }
    return false;
}

static uint32_t header_checksum(const struct file_header *header)
{
    return crc32c(0, header, offsetof(struct file_header, checksum));
}

void file_header_init(struct file_header *header, enum file_kind kind, uint64_t store_id,
                      uint64_t number, uint64_t file_id)
{
    assert(store_id != 0 && file_id != 0);
    *header = (struct file_header){
        .format_version = FILES_FORMAT_VERSION,
        .checksum_type = CHECKSUM_CRC32C,
        .store_id = store_id,
        .number = number,
        .file_id = file_id,
    };
    make_magic(kind, header->magic);
    header->checksum = header_checksum(header);
}

bool file_header_is_intact(const struct file_header *header)
{
    return header->checksum == header_checksum(header);
}

static enum err check_magic(const struct file_header *header, enum file_kind kind, const char *name,
                            struct err_detail *detail)
{
    uint8_t magic[MAGIC_BYTES];

    for (enum file_kind other = FILE_SEGMENT; other < (enum file_kind)KINDS; other++) {
        make_magic(other, magic);
        if (memcmp(header->magic, magic, sizeof magic) != 0) {
            continue;
        }
        if (other == kind) {
            return ERR_OK;
        }
        err_detail_set(detail, "%s: is %s, not %s", name, kinds[other].article,
                       kinds[kind].article);
        return ERR_CORRUPT;
    }
    err_detail_set(detail, "%s: doesn't begin as %s does", name, kinds[kind].article);
    return ERR_CORRUPT;
}

/* Before the checksum, which a later version may keep elsewhere. */
static enum err check_version(const struct file_header *header, const char *name,
                              struct err_detail *detail)
{
    uint32_t version = header->format_version;

    if (version == FILES_FORMAT_VERSION) {
        return ERR_OK;
    }
    if (version == 0) {
        err_detail_set(detail, "%s: the file header is damaged: format version 0", name);
        return ERR_CORRUPT;
    }
    err_detail_set(detail,
                   "%s: has format version %" PRIu32 ", this varve reads version %u: "
                   "use the version of varve that wrote it%s",
                   name, version, FILES_FORMAT_VERSION,
                   file_header_is_intact(header)
                       ? ""
                       : " (or the file header is damaged: its checksum doesn't agree)");
    return ERR_FORMAT;
}

/* Of an intact header: what this version can't understand. */
static enum err check_features(const struct file_header *header, const char *name,
                               struct err_detail *detail)
{
    if (header->must_understand != 0) {
        err_detail_set(
            detail,
            "%s: needs features that this varve doesn't know (must-understand bits 0x%" PRIx32
            ", lowest is bit %d)",
            name, header->must_understand, __builtin_ctz(header->must_understand));
        return ERR_FORMAT;
    }
    if (header->checksum_type != CHECKSUM_CRC32C) {
        err_detail_set(detail, "%s: uses checksums of type %" PRIu32 ", this varve knows type %u",
                       name, header->checksum_type, CHECKSUM_CRC32C);
        return ERR_FORMAT;
    }
    return ERR_OK;
}

enum err file_header_check(const struct file_header *header, enum file_kind kind, uint64_t store_id,
                           uint64_t number, const char *name, struct err_detail *detail)
{
    enum err err = check_magic(header, kind, name, detail);
    if (!err) {
        err = check_version(header, name, detail);
    }
    if (err) {
        return err;
    }
    if (!file_header_is_intact(header)) {
        err_detail_set(detail, "%s: the file header is damaged: its checksum doesn't agree", name);
        return ERR_CORRUPT;
    }
    err = check_features(header, name, detail);
    if (err) {
        return err;
    }
    if (header->store_id == 0 || header->file_id == 0 || header->reserved != 0 ||
        header->reserved1 != 0) {
        err_detail_set(detail, "%s: the file header has impossible fields", name);
        return ERR_CORRUPT;
    }
    if (store_id != 0 && header->store_id != store_id) {
        err_detail_set(detail,
                       "%s: belongs to another store (id %016" PRIx64 ", here %016" PRIx64 ")",
                       name, header->store_id, store_id);
        return ERR_CORRUPT;
    }
    if (number != UINT64_MAX && header->number != number) {
        err_detail_set(detail,
                       "%s: is another file under this name: its header has number %016" PRIx64
                       " instead of %016" PRIx64,
                       name, header->number, number);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}
