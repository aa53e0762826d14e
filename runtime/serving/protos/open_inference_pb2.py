"""The messages of open_inference.proto. Made by scripts/generate_protos.py: do not edit."""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

DESCRIPTOR = descriptor_pool.DescriptorPool().AddSerializedFile(
    b'\n\x14open_inference.proto\x12\tinference"\x13\n\x11ServerLiveRequest""\n\x12ServerLiveRespon'
    b'se\x12\x0c\n\x04live\x18\x01 \x01(\x08"\x14\n\x12ServerReadyRequest"$\n\x13ServerReadyRespons'
    b'e\x12\r\n\x05ready\x18\x01 \x01(\x08"2\n\x11ModelReadyRequest\x12\x0c\n\x04name\x18\x01 \x01('
    b'\t\x12\x0f\n\x07version\x18\x02 \x01(\t"#\n\x12ModelReadyResponse\x12\r\n\x05ready\x18\x01 '
    b'\x01(\x08"\x17\n\x15ServerMetadataRequest"K\n\x16ServerMetadataResponse\x12\x0c\n\x04name\x18'
    b'\x01 \x01(\t\x12\x0f\n\x07version\x18\x02 \x01(\t\x12\x12\n\nextensions\x18\x03 \x03(\t"5\n'
    b'\x14ModelMetadataRequest\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0f\n\x07version\x18\x02 \x01('
    b'\t"\x8d\x02\n\x15ModelMetadataResponse\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x10\n\x08version'
    b's\x18\x02 \x03(\t\x12\x10\n\x08platform\x18\x03 \x01(\t\x12?\n\x06inputs\x18\x04 \x03(\x0b2/.'
    b'inference.ModelMetadataResponse.TensorMetadata\x12@\n\x07outputs\x18\x05 \x03(\x0b2/.inferenc'
    b'e.ModelMetadataResponse.TensorMetadata\x1a?\n\x0eTensorMetadata\x12\x0c\n\x04name\x18\x01 '
    b'\x01(\t\x12\x10\n\x08datatype\x18\x02 \x01(\t\x12\r\n\x05shape\x18\x03 \x03(\x03"\x99\x01\n'
    b'\x0eInferParameter\x12\x14\n\nbool_param\x18\x01 \x01(\x08H\x00\x12\x15\n\x0bint64_param\x18'
    b'\x02 \x01(\x03H\x00\x12\x16\n\x0cstring_param\x18\x03 \x01(\tH\x00\x12\x16\n\x0cdouble_param'
    b'\x18\x04 \x01(\x01H\x00\x12\x16\n\x0cuint64_param\x18\x05 \x01(\x04H\x00B\x12\n\x10parameter_'
    b'choice"\xd0\x01\n\x13InferTensorContents\x12\x15\n\rbool_contents\x18\x01 \x03(\x08\x12\x14\n'
    b'\x0cint_contents\x18\x02 \x03(\x05\x12\x16\n\x0eint64_contents\x18\x03 \x03(\x03\x12\x15\n\ru'
    b'int_contents\x18\x04 \x03(\r\x12\x17\n\x0fuint64_contents\x18\x05 \x03(\x04\x12\x15\n\rfp32_c'
    b'ontents\x18\x06 \x03(\x02\x12\x15\n\rfp64_contents\x18\x07 \x03(\x01\x12\x16\n\x0ebytes_conte'
    b'nts\x18\x08 \x03(\x0c"\xee\x06\n\x11ModelInferRequest\x12\x12\n\nmodel_name\x18\x01 \x01(\t'
    b'\x12\x15\n\rmodel_version\x18\x02 \x01(\t\x12\n\n\x02id\x18\x03 \x01(\t\x12@\n\nparameters'
    b'\x18\x04 \x03(\x0b2,.inference.ModelInferRequest.ParametersEntry\x12=\n\x06inputs\x18\x05 '
    b'\x03(\x0b2-.inference.ModelInferRequest.InferInputTensor\x12H\n\x07outputs\x18\x06 \x03(\x0b2'
    b'7.inference.ModelInferRequest.InferRequestedOutputTensor\x12\x1a\n\x12raw_input_contents\x18'
    b'\x07 \x03(\x0c\x1a\x94\x02\n\x10InferInputTensor\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x10\n'
    b'\x08datatype\x18\x02 \x01(\t\x12\r\n\x05shape\x18\x03 \x03(\x03\x12Q\n\nparameters\x18\x04 '
    b'\x03(\x0b2=.inference.ModelInferRequest.InferInputTensor.ParametersEntry\x120\n\x08contents'
    b'\x18\x05 \x01(\x0b2\x1e.inference.InferTensorContents\x1aL\n\x0fParametersEntry\x12\x0b\n\x03'
    b'key\x18\x01 \x01(\t\x12(\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameter:\x028\x01'
    b'\x1a\xd5\x01\n\x1aInferRequestedOutputTensor\x12\x0c\n\x04name\x18\x01 \x01(\t\x12[\n\nparame'
    b'ters\x18\x02 \x03(\x0b2G.inference.ModelInferRequest.InferRequestedOutputTensor.ParametersEnt'
    b'ry\x1aL\n\x0fParametersEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12(\n\x05value\x18\x02 \x01('
    b'\x0b2\x19.inference.InferParameter:\x028\x01\x1aL\n\x0fParametersEntry\x12\x0b\n\x03key\x18'
    b'\x01 \x01(\t\x12(\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameter:\x028\x01"\xd5'
    b'\x04\n\x12ModelInferResponse\x12\x12\n\nmodel_name\x18\x01 \x01(\t\x12\x15\n\rmodel_version'
    b'\x18\x02 \x01(\t\x12\n\n\x02id\x18\x03 \x01(\t\x12A\n\nparameters\x18\x04 \x03(\x0b2-.inferen'
    b'ce.ModelInferResponse.ParametersEntry\x12@\n\x07outputs\x18\x05 \x03(\x0b2/.inference.ModelIn'
    b'ferResponse.InferOutputTensor\x12\x1b\n\x13raw_output_contents\x18\x06 \x03(\x0c\x1a\x97\x02'
    b'\n\x11InferOutputTensor\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x10\n\x08datatype\x18\x02 \x01('
    b'\t\x12\r\n\x05shape\x18\x03 \x03(\x03\x12S\n\nparameters\x18\x04 \x03(\x0b2?.inference.ModelI'
    b'nferResponse.InferOutputTensor.ParametersEntry\x120\n\x08contents\x18\x05 \x01(\x0b2\x1e.infe'
    b'rence.InferTensorContents\x1aL\n\x0fParametersEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12(\n'
    b'\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameter:\x028\x01\x1aL\n\x0fParametersEntry'
    b'\x12\x0b\n\x03key\x18\x01 \x01(\t\x12(\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParam'
    b'eter:\x028\x01"h\n\x18ModelStreamInferResponse\x12\x15\n\rerror_message\x18\x01 \x01(\t\x125'
    b'\n\x0einfer_response\x18\x02 \x01(\x0b2\x1d.inference.ModelInferResponse"3\n\x12ModelConfigRe'
    b'quest\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0f\n\x07version\x18\x02 \x01(\t"=\n\x13ModelConf'
    b'igResponse\x12&\n\x06config\x18\x01 \x01(\x0b2\x16.inference.ModelConfig"P\n\nModelInput\x12'
    b'\x0c\n\x04name\x18\x01 \x01(\t\x12&\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference.DataType'
    b'\x12\x0c\n\x04dims\x18\x04 \x03(\x03"Q\n\x0bModelOutput\x12\x0c\n\x04name\x18\x01 \x01(\t\x12'
    b'&\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference.DataType\x12\x0c\n\x04dims\x18\x03 \x03(\x03"'
    b'+\n\x16ModelTransactionPolicy\x12\x11\n\tdecoupled\x18\x01 \x01(\x08"\xe9\x01\n\x0bModelConfi'
    b'g\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x10\n\x08platform\x18\x02 \x01(\t\x12\x16\n\x0emax_ba'
    b'tch_size\x18\x04 \x01(\x05\x12$\n\x05input\x18\x05 \x03(\x0b2\x15.inference.ModelInput\x12&\n'
    b'\x06output\x18\x06 \x03(\x0b2\x16.inference.ModelOutput\x12\x0f\n\x07backend\x18\x11 \x01(\t'
    b'\x12C\n\x18model_transaction_policy\x18\x13 \x01(\x0b2!.inference.ModelTransactionPolicy"7\n'
    b'\x16ModelStatisticsRequest\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0f\n\x07version\x18\x02 '
    b'\x01(\t".\n\x11StatisticDuration\x12\r\n\x05count\x18\x01 \x01(\x04\x12\n\n\x02ns\x18\x02 '
    b'\x01(\x04"\xb9\x02\n\x0fInferStatistics\x12-\n\x07success\x18\x01 \x01(\x0b2\x1c.inference.St'
    b'atisticDuration\x12*\n\x04fail\x18\x02 \x01(\x0b2\x1c.inference.StatisticDuration\x12+\n\x05q'
    b'ueue\x18\x03 \x01(\x0b2\x1c.inference.StatisticDuration\x123\n\rcompute_input\x18\x04 \x01('
    b'\x0b2\x1c.inference.StatisticDuration\x123\n\rcompute_infer\x18\x05 \x01(\x0b2\x1c.inference.'
    b'StatisticDuration\x124\n\x0ecompute_output\x18\x06 \x01(\x0b2\x1c.inference.StatisticDuration'
    b'"\xaf\x01\n\x0fModelStatistics\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0f\n\x07version\x18\x02'
    b' \x01(\t\x12\x16\n\x0elast_inference\x18\x03 \x01(\x04\x12\x17\n\x0finference_count\x18\x04 '
    b'\x01(\x04\x12\x17\n\x0fexecution_count\x18\x05 \x01(\x04\x123\n\x0finference_stats\x18\x06 '
    b'\x01(\x0b2\x1a.inference.InferStatistics"J\n\x17ModelStatisticsResponse\x12/\n\x0bmodel_stats'
    b'\x18\x01 \x03(\x0b2\x1a.inference.ModelStatistics"\x8a\x01\n\x18ModelRepositoryParameter\x12'
    b'\x14\n\nbool_param\x18\x01 \x01(\x08H\x00\x12\x15\n\x0bint64_param\x18\x02 \x01(\x03H\x00\x12'
    b'\x16\n\x0cstring_param\x18\x03 \x01(\tH\x00\x12\x15\n\x0bbytes_param\x18\x04 \x01(\x0cH\x00B'
    b'\x12\n\x10parameter_choice"@\n\x16RepositoryIndexRequest\x12\x17\n\x0frepository_name\x18\x01'
    b' \x01(\t\x12\r\n\x05ready\x18\x02 \x01(\x08"\xa4\x01\n\x17RepositoryIndexResponse\x12=\n\x06m'
    b'odels\x18\x01 \x03(\x0b2-.inference.RepositoryIndexResponse.ModelIndex\x1aJ\n\nModelIndex\x12'
    b'\x0c\n\x04name\x18\x01 \x01(\t\x12\x0f\n\x07version\x18\x02 \x01(\t\x12\r\n\x05state\x18\x03 '
    b'\x01(\t\x12\x0e\n\x06reason\x18\x04 \x01(\t"\xec\x01\n\x1aRepositoryModelLoadRequest\x12\x17'
    b'\n\x0frepository_name\x18\x01 \x01(\t\x12\x12\n\nmodel_name\x18\x02 \x01(\t\x12I\n\nparameter'
    b's\x18\x03 \x03(\x0b25.inference.RepositoryModelLoadRequest.ParametersEntry\x1aV\n\x0fParamete'
    b'rsEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x122\n\x05value\x18\x02 \x01(\x0b2#.inference.ModelR'
    b'epositoryParameter:\x028\x01"\x1d\n\x1bRepositoryModelLoadResponse"\xf0\x01\n\x1cRepositoryMo'
    b'delUnloadRequest\x12\x17\n\x0frepository_name\x18\x01 \x01(\t\x12\x12\n\nmodel_name\x18\x02 '
    b'\x01(\t\x12K\n\nparameters\x18\x03 \x03(\x0b27.inference.RepositoryModelUnloadRequest.Paramet'
    b'ersEntry\x1aV\n\x0fParametersEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x122\n\x05value\x18\x02 '
    b'\x01(\x0b2#.inference.ModelRepositoryParameter:\x028\x01"\x1f\n\x1dRepositoryModelUnloadRespo'
    b'nse*\xfa\x01\n\x08DataType\x12\x10\n\x0cTYPE_INVALID\x10\x00\x12\r\n\tTYPE_BOOL\x10\x01\x12'
    b'\x0e\n\nTYPE_UINT8\x10\x02\x12\x0f\n\x0bTYPE_UINT16\x10\x03\x12\x0f\n\x0bTYPE_UINT32\x10\x04'
    b'\x12\x0f\n\x0bTYPE_UINT64\x10\x05\x12\r\n\tTYPE_INT8\x10\x06\x12\x0e\n\nTYPE_INT16\x10\x07'
    b'\x12\x0e\n\nTYPE_INT32\x10\x08\x12\x0e\n\nTYPE_INT64\x10\t\x12\r\n\tTYPE_FP16\x10\n\x12\r\n\t'
    b'TYPE_FP32\x10\x0b\x12\r\n\tTYPE_FP64\x10\x0c\x12\x0f\n\x0bTYPE_STRING\x10\r\x12\r\n\tTYPE_BF1'
    b'6\x10\x0e2\x9f\x08\n\x14GRPCInferenceService\x12I\n\nServerLive\x12\x1c.inference.ServerLiveR'
    b'equest\x1a\x1d.inference.ServerLiveResponse\x12L\n\x0bServerReady\x12\x1d.inference.ServerRea'
    b'dyRequest\x1a\x1e.inference.ServerReadyResponse\x12I\n\nModelReady\x12\x1c.inference.ModelRea'
    b'dyRequest\x1a\x1d.inference.ModelReadyResponse\x12U\n\x0eServerMetadata\x12 .inference.Server'
    b'MetadataRequest\x1a!.inference.ServerMetadataResponse\x12R\n\rModelMetadata\x12\x1f.inference'
    b'.ModelMetadataRequest\x1a .inference.ModelMetadataResponse\x12I\n\nModelInfer\x12\x1c.inferen'
    b'ce.ModelInferRequest\x1a\x1d.inference.ModelInferResponse\x12Y\n\x10ModelStreamInfer\x12\x1c.'
    b'inference.ModelInferRequest\x1a#.inference.ModelStreamInferResponse(\x010\x01\x12L\n\x0bModel'
    b'Config\x12\x1d.inference.ModelConfigRequest\x1a\x1e.inference.ModelConfigResponse\x12X\n\x0fM'
    b'odelStatistics\x12!.inference.ModelStatisticsRequest\x1a".inference.ModelStatisticsResponse'
    b'\x12X\n\x0fRepositoryIndex\x12!.inference.RepositoryIndexRequest\x1a".inference.RepositoryInd'
    b'exResponse\x12d\n\x13RepositoryModelLoad\x12%.inference.RepositoryModelLoadRequest\x1a&.infer'
    b"ence.RepositoryModelLoadResponse\x12j\n\x15RepositoryModelUnload\x12'.inference.RepositoryMod"
    b'elUnloadRequest\x1a(.inference.RepositoryModelUnloadResponseb\x06proto3'
)
_MESSAGES = DESCRIPTOR.message_types_by_name
DataType = enum_type_wrapper.EnumTypeWrapper(DESCRIPTOR.enum_types_by_name['DataType'])
ServerLiveRequest = message_factory.GetMessageClass(_MESSAGES["ServerLiveRequest"])
ServerLiveResponse = message_factory.GetMessageClass(_MESSAGES["ServerLiveResponse"])
ServerReadyRequest = message_factory.GetMessageClass(_MESSAGES["ServerReadyRequest"])
ServerReadyResponse = message_factory.GetMessageClass(_MESSAGES["ServerReadyResponse"])
ModelReadyRequest = message_factory.GetMessageClass(_MESSAGES["ModelReadyRequest"])
ModelReadyResponse = message_factory.GetMessageClass(_MESSAGES["ModelReadyResponse"])
ServerMetadataRequest = message_factory.GetMessageClass(_MESSAGES["ServerMetadataRequest"])
ServerMetadataResponse = message_factory.GetMessageClass(_MESSAGES["ServerMetadataResponse"])
ModelMetadataRequest = message_factory.GetMessageClass(_MESSAGES["ModelMetadataRequest"])
ModelMetadataResponse = message_factory.GetMessageClass(_MESSAGES["ModelMetadataResponse"])
InferParameter = message_factory.GetMessageClass(_MESSAGES["InferParameter"])
InferTensorContents = message_factory.GetMessageClass(_MESSAGES["InferTensorContents"])
ModelInferRequest = message_factory.GetMessageClass(_MESSAGES["ModelInferRequest"])
ModelInferResponse = message_factory.GetMessageClass(_MESSAGES["ModelInferResponse"])
ModelStreamInferResponse = message_factory.GetMessageClass(_MESSAGES["ModelStreamInferResponse"])
ModelConfigRequest = message_factory.GetMessageClass(_MESSAGES["ModelConfigRequest"])
ModelConfigResponse = message_factory.GetMessageClass(_MESSAGES["ModelConfigResponse"])
ModelInput = message_factory.GetMessageClass(_MESSAGES["ModelInput"])
ModelOutput = message_factory.GetMessageClass(_MESSAGES["ModelOutput"])
ModelTransactionPolicy = message_factory.GetMessageClass(_MESSAGES["ModelTransactionPolicy"])
ModelConfig = message_factory.GetMessageClass(_MESSAGES["ModelConfig"])
ModelStatisticsRequest = message_factory.GetMessageClass(_MESSAGES["ModelStatisticsRequest"])
StatisticDuration = message_factory.GetMessageClass(_MESSAGES["StatisticDuration"])
InferStatistics = message_factory.GetMessageClass(_MESSAGES["InferStatistics"])
ModelStatistics = message_factory.GetMessageClass(_MESSAGES["ModelStatistics"])
ModelStatisticsResponse = message_factory.GetMessageClass(_MESSAGES["ModelStatisticsResponse"])
ModelRepositoryParameter = message_factory.GetMessageClass(_MESSAGES["ModelRepositoryParameter"])
RepositoryIndexRequest = message_factory.GetMessageClass(_MESSAGES["RepositoryIndexRequest"])
RepositoryIndexResponse = message_factory.GetMessageClass(_MESSAGES["RepositoryIndexResponse"])
RepositoryModelLoadRequest = message_factory.GetMessageClass(_MESSAGES["RepositoryModelLoadRequest"])
RepositoryModelLoadResponse = message_factory.GetMessageClass(_MESSAGES["RepositoryModelLoadResponse"])
RepositoryModelUnloadRequest = message_factory.GetMessageClass(_MESSAGES["RepositoryModelUnloadRequest"])
RepositoryModelUnloadResponse = message_factory.GetMessageClass(_MESSAGES["RepositoryModelUnloadResponse"])
