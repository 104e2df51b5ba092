/* Fields: a table says which members a struct has and of which type; from it come its JSON, its copy and its end. So what is recorded, what is copied
 * and what is freed cannot differ. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum field_type {
    FIELD_STRING, /* char *, owned; NULL counts as "" and becomes it */
    FIELD_STRV,   /* struct strv */
    FIELD_STRMAP, /* struct strmap */
    FIELD_I64,
    FIELD_U64,
    FIELD_U32,
    FIELD_U16,
    FIELD_INT, /* int, enum, pid_t; read only within 0…most where `most` is given */
    FIELD_BOOL,
    FIELD_STRUCT, /* in place, as `of` says */
    FIELD_ARRAY,  /* pointer to elements as `of` says, their size_t count at count_offset */
};

struct fields;

struct field {
    const char *name; /* in JSON */
    enum field_type type;
    size_t offset, count_offset;
    const struct fields *of;
    int most;
};

struct fields {
    size_t size; /* of the struct */
    size_t count;
    const struct field *list;
};

#define FIELDS(struct_type, array)                                    \
    {                                                                 \
        sizeof(struct_type), sizeof(array) / sizeof *(array), (array) \
    }

/* NULL with ERR_INVALID where a string is not UTF-8, naming the field. */
json_t *fields_to_json(const struct fields *fields, const void *object, struct error *err);
/* Fill a zeroed object. Absent members are zero or ""; a member of the wrong type is ERR_INVALID naming it (what was read is freed). */
int fields_from_json(const struct fields *fields, void *object, const json_t *json, struct error *err);
/* Make every string that is NULL "". */
void fields_fill(const struct fields *fields, void *object);
/* Fill a zeroed object with a deep copy. */
void fields_copy(const struct fields *fields, void *to, const void *from);
/* Free all members and zero them. */
void fields_free(const struct fields *fields, void *object);
