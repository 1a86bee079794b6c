# Unit tests: tests/unit/test_NAME.c; the line says which objects it links besides common.
UNIT = bytes
UNIT_OBJ_bytes =

UNIT_BIN = $(UNIT:%=$(OBJ)/tests/unit/test_%)

define unit
$$(OBJ)/tests/unit/test_$(1): $$(OBJ)/tests/unit/test_$(1).o $$(UNIT_OBJ_$(1):%=$$(OBJ)/%) $$(OBJ)/libcommon.a $$(BIN)/paths.o
	$$(CC) $$(ALLLDFLAGS) -o $$@ $$< $$(UNIT_OBJ_$(1):%=$$(OBJ)/%) $$(BIN)/paths.o $$(OBJ)/libcommon.a -lcmocka $$(UNIT_LIBS_$(1))
endef
$(foreach t,$(UNIT),$(eval $(call unit,$(t))))

check-unit: $(UNIT_BIN)
	sh tests/unit/run $(UNIT_BIN)

asan ubsan:
	$(MAKE) VARIANT=asan check-unit
