#pragma once

#include "plan.h"

/** TfLiteType, by whose numbers LiteRT calls its element types, too. */
inline int tflite_type(Type type) {
    switch (type) {
        case Type::Float32: return 1;
        case Type::Int32: return 2;
        case Type::UInt8: return 3;
        case Type::Int8: return 9;
    }
    return 0;
}
